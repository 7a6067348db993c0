# The topology's value types and what a node says about itself: no third party.
nearcached_library(nearcached_topology SOURCES cluster_nodes.cpp)

# What is asked of the upstream beside the traffic. Its headers show neither Asio nor hiredis.
nearcached_library(nearcached_control
  SOURCES
    cluster_slots.cpp
    control_errands.cpp
    control_link.cpp
    control_loop.cpp
    control_plane.cpp
    credential_list.cpp
    node_ring.cpp
    refresh_schedule.cpp
    sentinels.cpp
    topology_watch.cpp
  PUBLIC nearcached_topology nearcached_io
  PRIVATE Boost::headers PkgConfig::hiredis Threads::Threads)
