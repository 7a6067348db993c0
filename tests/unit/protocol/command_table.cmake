nearcached_test(command_table_test LABEL unit
  SOURCES
    command_table_test.cpp
    key_extraction_test.cpp
  LIBRARIES nearcached_protocol
)
