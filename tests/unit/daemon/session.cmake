nearcached_test(session_parts_test LABEL unit
  SOURCES access_test.cpp client_facts_test.cpp client_pause_test.cpp command_latency_test.cpp dead_letters_test.cpp gather_test.cpp
    memory_report_test.cpp monitor_test.cpp
    own_settings_test.cpp request_trail_test.cpp scan_cursor_test.cpp secret_args_test.cpp slow_log_test.cpp
  LIBRARIES nearcached_daemon)
