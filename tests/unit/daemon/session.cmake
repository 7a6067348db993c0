nearcached_test(session_parts_test LABEL unit
  SOURCES gather_test.cpp scan_cursor_test.cpp
  LIBRARIES nearcached_daemon)
