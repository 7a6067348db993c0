nearcached_test(observability_test LABEL unit
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/admin_pages_test.cpp
    ${CMAKE_CURRENT_LIST_DIR}/log_rate_limit_test.cpp
    ${CMAKE_CURRENT_LIST_DIR}/log_test.cpp
    ${CMAKE_CURRENT_LIST_DIR}/metrics_test.cpp
    ${CMAKE_CURRENT_LIST_DIR}/process_usage_test.cpp
    ${CMAKE_CURRENT_LIST_DIR}/stats_report_test.cpp
    ${CMAKE_CURRENT_LIST_DIR}/text_escape_test.cpp
  LIBRARIES nearcached_observability Threads::Threads)
target_compile_definitions(observability_test PRIVATE
  NEARCACHED_METRICS_DOC="${PROJECT_SOURCE_DIR}/docs/metrics.md")

# Real sockets on loopback, and timeouts that really pass: not a unit test.
nearcached_test(admin_server_test LABEL mock
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/admin_server_test.cpp
  LIBRARIES nearcached_observability Threads::Threads)
