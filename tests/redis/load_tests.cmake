# Every load test in its shortest form: that it runs and writes a whole section. Its figures mean nothing then.
find_package(Python3 REQUIRED COMPONENTS Interpreter)

if(NEARCACHED_SIM)
  foreach(name compare value_sizes two_workers latency connections memory_per_item l1_memory instructions compression
          invalidation_delay tracking_cost outage write_behind)
    add_test(NAME redis.load_test.${name}
      COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/load_test_smoke.py ${name} ${CMAKE_BINARY_DIR})
    set_tests_properties(redis.load_test.${name} PROPERTIES LABELS redis TIMEOUT 120 SKIP_RETURN_CODE 77 RUN_SERIAL ON)
  endforeach()
endif()
