add_executable(l1_replay ${CMAKE_CURRENT_LIST_DIR}/l1_replay.cpp)
nearcached_configure(l1_replay)
target_link_libraries(l1_replay PRIVATE nearcached_l1 PkgConfig::zstd)
