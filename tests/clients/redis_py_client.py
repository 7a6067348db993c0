"""redis-py as an application uses it: https://github.com/redis/redis-py

    redis_py_client.py HOST PORT MODE

With TLS_CA in the environment, the path of an authority's certificate, it connects under TLS; with PASSWORD (and USERNAME) it
authenticates.
"""

import os
import sys
import threading
import time
import traceback

import redis

HOST, PORT = sys.argv[1], int(sys.argv[2])
PATIENCE_S = 20
AUTH = {"username": os.environ.get("USERNAME"), "password": os.environ["PASSWORD"]} if "PASSWORD" in os.environ else {}
TLS = {"ssl": True, "ssl_ca_certs": os.environ["TLS_CA"]} if "TLS_CA" in os.environ else {}


def connect(**options):
    return redis.Redis(HOST, PORT, socket_timeout=PATIENCE_S, decode_responses=True, **TLS, **{**AUTH, **options})


def key(name):
    return "{redis-py}:" + name


def a_hot_key_is_read_back_changed_and_read_again():
    client = connect()
    client.set(key("hot"), "1")
    assert [client.get(key("hot")) for _ in range(10)] == ["1"] * 10
    client.set(key("hot"), "2", ex=100)
    assert client.get(key("hot")) == "2"
    assert client.get(key("nothing")) is None


def pipelines_with_and_without_a_transaction():
    client = connect()
    for transaction in (True, False):
        pipeline = client.pipeline(transaction=transaction)
        for i in range(300):
            pipeline.set(key(f"p{i}"), i)
            pipeline.get(key(f"p{i}"))
        assert pipeline.execute()[1::2] == [str(i) for i in range(300)]


def an_optimistic_transaction_is_tried_until_it_wins():
    def count(times):
        client = connect()

        def add(pipeline):
            value = int(pipeline.get(key("count")) or 0)
            pipeline.multi()
            pipeline.set(key("count"), value + 1)

        for _ in range(times):
            client.transaction(add, key("count"))

    connect().delete(key("count"))
    threads = [threading.Thread(target=count, args=(50,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert connect().get(key("count")) == "200"


def pub_sub_in_a_thread():
    heard = []
    subscriber = connect().pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(**{key("news"): lambda message: heard.append(message["data"])})
    subscriber.psubscribe(**{"*py*news": lambda message: heard.append("p" + message["data"])})
    thread = subscriber.run_in_thread(sleep_time=0.01)
    until = time.monotonic() + PATIENCE_S
    while connect().publish(key("news"), "x") < 2 and time.monotonic() < until:
        time.sleep(0.02)
    while not {"x", "px"} <= set(heard) and time.monotonic() < until:
        time.sleep(0.02)
    thread.stop()
    thread.join()
    assert {"x", "px"} <= set(heard), heard


def a_blocking_pop_is_woken():
    popped = []
    consumer = threading.Thread(target=lambda: popped.append(connect().blpop(key("list"), 10)))
    consumer.start()
    connect().rpush(key("list"), "job")
    consumer.join()
    assert popped == [(key("list"), "job")], popped


def a_lock_is_held_by_one():
    first, second = (connect().lock(key("lock"), timeout=10) for _ in range(2))
    assert first.acquire(blocking=False)
    assert not second.acquire(blocking=False)
    first.release()
    assert second.acquire(blocking=False)
    second.release()


def a_registered_script_survives_script_flush():
    client = connect()
    script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    client.delete(key("sum"))
    assert script(keys=[key("sum")], args=[2]) == 2
    client.script_flush()
    assert script(keys=[key("sum")], args=[3]) == 5


def iterators_see_everything():
    client = connect()
    client.hset(key("hash"), mapping={f"f{i}": i for i in range(1000)})
    assert len(dict(client.hscan_iter(key("hash")))) == 1000
    client.zadd(key("zset"), {f"m{i}": i for i in range(1000)})
    assert len(set(client.zscan_iter(key("zset")))) == 1000


def a_stream_with_a_consumer_group():
    client = connect()
    client.delete(key("stream"))
    client.xgroup_create(key("stream"), "workers", id="$", mkstream=True)
    entry = client.xadd(key("stream"), {"what": "work"})
    assert client.xreadgroup("workers", "me", {key("stream"): ">"}, block=5000) == [
        [key("stream"), [(entry, {"what": "work"})]]]
    assert client.xack(key("stream"), "workers", entry) == 1


def a_lost_connection_is_made_anew():
    client = connect()
    client.set(key("k"), "v")
    client.connection_pool.disconnect()
    assert client.get(key("k")) == "v"


def a_wrong_password_is_told():
    try:
        connect(username="nobody", password="x").ping()
    except redis.AuthenticationError:
        return
    except redis.ResponseError as error:
        assert str(error).startswith("WRONGPASS"), error
        return
    raise AssertionError("nobody was let in")


def the_process_tells_of_its_clients_and_slow_commands():
    client = connect(client_name="teller")
    me = client.client_id()
    assert [line["name"] for line in client.client_list(client_id=[str(me)])] == ["teller"]
    assert client.client_info()["id"] == me
    client.slowlog_reset()
    client.eval("local t = redis.call('TIME') local from = t[1] * 1000000 + t[2] "
                "repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] - from > 30000", 0)
    slow = client.slowlog_get()[0]
    assert slow["command"].startswith(b"EVAL ") and slow["duration"] >= 30000, slow
    assert client.slowlog_len() >= 1
    assert client.client_pause(1) and client.client_unpause()
    with client.monitor() as monitor:
        connect().set(key("monitored"), "a b")
        seen = monitor.next_command()
        while "monitored" not in seen["command"]:
            seen = monitor.next_command()
        assert seen["command"] == f"SET {key('monitored')} a b" and seen["db"] == 0, seen


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
