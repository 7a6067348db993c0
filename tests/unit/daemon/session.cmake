nearcached_test(session_parts_test LABEL unit
  SOURCES client_facts_test.cpp gather_test.cpp own_settings_test.cpp scan_cursor_test.cpp
  LIBRARIES nearcached_daemon)
