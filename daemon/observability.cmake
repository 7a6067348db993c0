# What the process tells about itself: log, metrics, reports and the admin server over them.
nearcached_library(nearcached_observability
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/admin_pages.cpp
    ${CMAKE_CURRENT_LIST_DIR}/admin_server.cpp
    ${CMAKE_CURRENT_LIST_DIR}/log.cpp
    ${CMAKE_CURRENT_LIST_DIR}/log_rate_limit.cpp
    ${CMAKE_CURRENT_LIST_DIR}/metrics.cpp
    ${CMAKE_CURRENT_LIST_DIR}/process_usage.cpp
    ${CMAKE_CURRENT_LIST_DIR}/stats_report.cpp
    ${CMAKE_CURRENT_LIST_DIR}/text_escape.cpp
  PUBLIC nearcached_insight nearcached_write_behind
  PRIVATE Boost::headers Threads::Threads spdlog::spdlog prometheus-cpp::core)
