nearcached_test(control_unit LABEL unit
  SOURCES
    cluster_nodes_test.cpp
    cluster_slots_test.cpp
    credential_list_test.cpp
    node_ring_test.cpp
    refresh_schedule_test.cpp
    sentinels_test.cpp
  LIBRARIES nearcached_control)
