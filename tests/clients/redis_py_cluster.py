"""redis-py in its cluster mode, which finds the nodes by CLUSTER SLOTS: https://github.com/redis/redis-py

    redis_py_cluster.py HOST PORT MODE
"""

import sys
import traceback

from redis.cluster import RedisCluster

HOST, PORT = sys.argv[1], int(sys.argv[2])
PATIENCE_S = 20


def connect():
    return RedisCluster(host=HOST, port=PORT, socket_timeout=PATIENCE_S, decode_responses=True)


def key(name):
    return f"redis-py-cluster:{name}"


def one_node_serves_all_slots():
    client = connect()
    assert [(node.host, node.port) for node in client.get_nodes()] == [(HOST, PORT)], client.get_nodes()
    for i in range(200):
        client.set(key(i), i)
    assert [client.get(key(i)) for i in range(200)] == [str(i) for i in range(200)]
    assert client.mget_nonatomic([key(i) for i in range(200)]) == [str(i) for i in range(200)]


def pipelines_go_to_every_slot():
    pipeline = connect().pipeline()
    for i in range(300):
        pipeline.set(key(f"p{i}"), i)
        pipeline.get(key(f"p{i}"))
    assert pipeline.execute()[1::2] == [str(i) for i in range(300)]


def iterators_see_everything():
    client = connect()
    for i in range(300):
        client.set(key(f"s{i}"), i)
    assert {key(f"s{i}") for i in range(300)} <= set(client.scan_iter(match=key("s*")))


def messages_arrive():
    client = connect()
    subscriber = client.pubsub()
    subscriber.subscribe(key("news"))
    assert subscriber.get_message(timeout=PATIENCE_S)["type"] == "subscribe"
    client.publish(key("news"), "hello")
    assert subscriber.get_message(timeout=PATIENCE_S)["data"] == "hello"


def a_script_and_a_stream():
    client = connect()
    client.delete(key("sum"), key("stream"))
    assert client.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, key("sum"), 4) == 4
    client.xgroup_create(key("stream"), "workers", id="$", mkstream=True)
    entry = client.xadd(key("stream"), {"what": "work"})
    assert client.xreadgroup("workers", "me", {key("stream"): ">"}) == [[key("stream"), [(entry, {"what": "work"})]]]


def a_lost_connection_is_made_anew():
    client = connect()
    client.set(key("k"), "v")
    client.disconnect_connection_pools()
    assert client.get(key("k")) == "v"


def main():
    failed = 0
    cases = [value for value in globals().values() if callable(value) and getattr(value, "__module__", "") == "__main__"
             and value.__name__ not in ("connect", "key", "main")]
    for case in cases:
        name = case.__name__.replace("_", " ")
        try:
            case()
            print(f"ok {name}")
        except Exception:
            failed += 1
            print(f"not ok {name}: " + traceback.format_exc().replace("\n", "\\n"))
    print(f"1..{len(cases)}")
    sys.exit(failed != 0)


main()
