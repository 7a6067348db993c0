#!/usr/bin/env python3
"""What a client sees of the protocol, compared with a plain redis-server wherever one has an opinion."""

import random
import shlex
import socket
import unittest

from system import (PATIENCE_S, Client, Cluster, RedisServer, ReplyError, Sidecar, encode, exchange, main)

# One command a line; keys of many slots, every type, right and wrong uses. No reply depends on time or chance.
STRINGS = r"""
SET s1 hello|GET s1|STRLEN s1|APPEND s1 " world"|GET s1|GETRANGE s1 0 4|GETRANGE s1 -5 -1|SUBSTR s1 0 2|SETRANGE s1 6 Redis
GET s1|SETRANGE s1 -1 x|GETSET s1 new|GET s1|GETDEL s1|GETDEL s1|GET s1|EXISTS s1|TYPE s1|SETNX s2 a|SETNX s2 b|GET s2
SET s2 c NX|SET s2 c XX|SET s3 c XX|SET s2 d GET|SET s3 d GET|SET s3 e NX GET|SET s2 v EX 0|SET s2 v EX abc|SET s2 v KEEPTTL
SET s2 v NX XX|SET s2|SET s2 v BOGUS|SETEX s4 1000 v|TTL s4|PERSIST s4|TTL s4|PERSIST s4|TTL nokey|PTTL nokey|PSETEX s4 0 v
PSETEX s4 100000 v|EXPIRE s4 1000|EXPIRE s4 500 GT|EXPIRE s4 5000 NX|EXPIRE s4 2000 XX|EXPIRE nokey 10|EXPIRE s4 abc
EXPIREAT s4 4102444800|EXPIRETIME s4|PEXPIRETIME s4|EXPIRETIME s2|EXPIRETIME nokey|GETEX s4 PERSIST|TTL s4|GETEX nokey
GETEX s4 EX -1
INCR n1|INCRBY n1 10|DECR n1|DECRBY n1 5|INCRBYFLOAT n1 0.5|INCR n1|GET n1|INCRBY n2 abc|SET n2 notanumber|INCR n2
INCRBYFLOAT n2 1
SET n3 9223372036854775807|INCR n3|DECRBY n3 -1|LCS s2 s2|SETBIT b1 7 1|GETBIT b1 7|GETBIT b1 8|SETBIT b1 7 2|SETBIT b1 -1 1
BITCOUNT b1|BITCOUNT b1 0 0|BITCOUNT b1 0 7 BIT|BITCOUNT b1 0|BITPOS b1 1|BITPOS b1 0|BITPOS b1 2
BITFIELD b1 GET u8 0 INCRBY u8 0 5
BITFIELD_RO b1 GET u8 0|BITFIELD b1 OVERFLOW FAIL INCRBY u2 0 3|BITOP NOT b1 b1|GET b1|BITCOUNT nokey|DUMP nokey
OBJECT ENCODING n3
OBJECT ENCODING s2|OBJECT REFCOUNT nokey|OBJECT ENCODING nokey|OBJECT BOGUS s2|OBJECT HELP extra|COPY s2 s2
RENAME nokey nokey
RENAME s2 s2|RENAMENX s2 s2|SET "" empty|GET ""|DEL ""|SET "with space" "line\r\nbreak"|GET "with space"|DEL "with space"
GET "a\x00b"
SET "a\x00b" "\x00\xff"|GET "a\x00b"|TOUCH n1|TOUCH nokey|UNLINK n1|DEL n1|EXISTS n2 n2|MGET n2|MSET n5 1|MSETNX n6 1
MSETNX n6 2|GET n6
""".strip()
LISTS = r"""
RPUSH l1 a b c d e|LPUSH l1 z|LRANGE l1 0 -1|LRANGE l1 1 2|LRANGE l1 5 1|LRANGE l1 a b|LLEN l1|LINDEX l1 0|LINDEX l1 -1
LINDEX l1 99
LSET l1 0 Z|LSET l1 99 x|LSET nokey 0 x|LINSERT l1 BEFORE b aa|LINSERT l1 AFTER nope x|LINSERT l1 BOGUS b x|LREM l1 1 aa
LPOS l1 c
LPOS l1 c RANK -1|LPOS l1 nope|LPOS l1 c COUNT 0|LPOS l1 c RANK 0|LPUSHX nokey a|RPUSHX l1 f|LPOP l1|RPOP l1|LPOP l1 2
LPOP l1 0
LPOP nokey|LPOP nokey 2|LPOP l1 -1|LTRIM l1 0 1|LRANGE l1 0 -1|RPOPLPUSH l1 l1|LMOVE l1 l1 LEFT RIGHT|LMOVE l1 l1 UP DOWN
LMPOP 1 l1 LEFT
LMPOP 1 nokey LEFT|LMPOP 0 l1 LEFT|GET l1|INCR l1|HGET l1 f|SADD l1 a|TYPE l1|OBJECT ENCODING l1|SORT l1 ALPHA|SORT l1
SORT_RO l1 ALPHA DESC
LLEN nokey|LRANGE nokey 0 -1|RPUSH|LPUSH l1|RPUSH s2 a
""".strip()
HASHES = r"""
HSET h1 a 1 b 2 c 3|HSET h1 a 10|HSET h1 a|HGET h1 a|HGET h1 nope|HGET nokey a|HMGET h1 a nope c|HMGET nokey a b|HGETALL h1
HGETALL nokey
HKEYS h1|HVALS h1|HLEN h1|HLEN nokey|HEXISTS h1 a|HEXISTS h1 zz|HSTRLEN h1 a|HINCRBY h1 a 5|HINCRBY h1 b abc
HINCRBYFLOAT h1 b 0.25
HINCRBY h1 b 1|HSETNX h1 d 4|HSETNX h1 d 5|HMSET h1 e 5 f 6|HDEL h1 e f nope|HDEL nokey a|HGETALL h1|HSCAN h1 0
HSCAN h1 0 MATCH a*
HSCAN h1 abc|HSCAN nokey 0|HRANDFIELD nokey|HRANDFIELD nokey 2|HRANDFIELD h1 0|OBJECT ENCODING h1|GET h1|TYPE h1|HGET h1
HGETALL s2
""".strip()
SETS = r"""
SADD t1 1 2 3|SADD t1 3 4|SMEMBERS t1|SMEMBERS nokey|SCARD t1|SISMEMBER t1 1|SISMEMBER t1 9|SMISMEMBER t1 1 9
SMISMEMBER nokey a b|SREM t1 4 9
SMOVE t1 t1 1|SINTER t1|SUNION t1 t1|SDIFF t1 t1|SINTERCARD 1 t1|SINTERCARD 1 t1 LIMIT 2|SINTERCARD 0 t1|SUNIONSTORE t1 t1
SSCAN t1 0
SPOP nokey|SPOP nokey 3|SPOP t1 -1|SRANDMEMBER nokey|SRANDMEMBER nokey 2|SADD t2 only|SRANDMEMBER t2|SRANDMEMBER t2 -2
SPOP t2|EXISTS t2
OBJECT ENCODING t1|GET t1|TYPE t1|SADD t1|SMEMBERS h1
""".strip()
SORTED_SETS = r"""
ZADD z1 1 a 2 b 3 c|ZADD z1 NX 9 a|ZADD z1 XX CH 4 a|ZADD z1 GT 1 a|ZADD z1 INCR 1.5 a|ZADD z1 NX INCR 1 a|ZADD z1 NX XX 1 a
ZADD z1 abc a
ZSCORE z1 a|ZSCORE z1 nope|ZSCORE nokey a|ZMSCORE z1 a nope b|ZMSCORE nokey a|ZINCRBY z1 2 b|ZINCRBY z1 nan b|ZCARD z1
ZCOUNT z1 -inf +inf
ZCOUNT z1 (3 5|ZCOUNT z1 a b|ZRANK z1 a|ZRANK z1 nope|ZREVRANK z1 c|ZRANGE z1 0 -1|ZRANGE z1 0 -1 WITHSCORES
ZRANGE z1 0 -1 REV
ZRANGE z1 (1 5 BYSCORE|ZRANGE z1 -inf +inf BYSCORE LIMIT 1 1|ZRANGE z1 [a [b BYLEX|ZREVRANGE z1 0 -1 WITHSCORES
ZRANGEBYSCORE z1 -inf +inf
ZRANGEBYSCORE z1 1 4 WITHSCORES LIMIT 0 2|ZREVRANGEBYSCORE z1 +inf -inf WITHSCORES|ZRANGEBYLEX z1 - +|ZREVRANGEBYLEX z1 + -
ZLEXCOUNT z1 - +
ZADD z2 inf x -inf y 0.1 z 3e20 w|ZRANGE z2 0 -1 WITHSCORES|ZPOPMIN z2|ZPOPMAX z2 2|ZPOPMIN nokey|ZPOPMIN z2 0|ZPOPMAX z2 -1
ZMPOP 1 z2 MIN
ZMPOP 1 nokey MAX|ZREM z1 nope|ZREM z1 a|ZREMRANGEBYSCORE z1 3 3|ZREMRANGEBYRANK z1 0 0|ZREMRANGEBYLEX z1 - +|ZRANGE z1 0 -1
ZADD z1 1 m
ZUNION 1 z1 WITHSCORES|ZINTER 1 z1|ZDIFF 1 z1 WITHSCORES|ZINTERCARD 1 z1|ZUNIONSTORE z1 1 z1 WEIGHTS 2
ZRANGESTORE z1 z1 0 -1|ZSCAN z1 0
ZRANDMEMBER nokey|ZRANDMEMBER nokey 1|ZRANDMEMBER z1|ZRANDMEMBER z1 -2 WITHSCORES|OBJECT ENCODING z1|GET z1|ZADD s2 1 a
ZRANGE z1 a b|ZCARD nokey
""".strip()
OTHERS = r"""
XADD x1 1-1 f v|XADD x1 1-2 f v g w|XADD x1 1-1 f v|XADD x1 0-0 f v|XADD x1 NOMKSTREAM 2-1 a b|XADD nokey NOMKSTREAM 2-1 a b
XLEN x1|XLEN nokey
XRANGE x1 - +|XRANGE x1 1-2 + COUNT 1|XREVRANGE x1 + -|XRANGE nokey - +|XRANGE x1 bad +|XREAD COUNT 2 STREAMS x1 0
XREAD STREAMS x1 9
XREAD STREAMS x1|XGROUP CREATE x1 g 0|XGROUP CREATE x1 g 0|XGROUP CREATE nokey g 0|XREADGROUP GROUP g c COUNT 1 STREAMS x1 >
XPENDING x1 g
XACK x1 g 1-1|XACK x1 g 9-9|XPENDING x1 g|XPENDING x1 nope|XINFO GROUPS x1|XINFO STREAM nokey|XINFO BOGUS x1
XGROUP DELCONSUMER x1 g c
XGROUP SETID x1 g $|XGROUP DESTROY x1 g|XDEL x1 1-2|XTRIM x1 MAXLEN 1|XSETID x1 9-9|XRANGE x1 - +|TYPE x1|OBJECT ENCODING x1
XADD s2 * a b
PFADD p1 a b c|PFADD p1 a|PFCOUNT p1|PFCOUNT nokey|PFMERGE p1 p1|PFCOUNT s2
GEOADD g1 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
GEOPOS g1 Palermo nope|GEODIST g1 Palermo Catania km|GEODIST g1 Palermo nope|GEOHASH g1 Palermo Catania|GEOADD g1 500 500 x
GEOSEARCH g1 FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHCOORD WITHDIST|GEORADIUS g1 15 37 200 km ASC
GEOSEARCH g1 FROMMEMBER nope BYBOX 1 1 m
EVAL "return 1" 0|EVAL "return redis.call('GET', KEYS[1])" 1 s2|EVAL "return {1,'two',{3},false,true}" 1 s2
EVAL "return redis.error_reply('MY error')" 1 s2
EVAL "return {double=3.5}" 1 s2|EVAL "redis.call('SET', KEYS[1], ARGV[1])" 1 e1 v|GET e1|EVAL "bad lua" 1 s2
EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 s2
EVAL_RO "return redis.call('GET', KEYS[1])" 1 e1|EVAL_RO "return redis.call('SET', KEYS[1], 1)" 1 e1|EVAL "return 1" -1
EVAL "return 1" 5 a|FCALL nope 1 s2
NOSUCHCOMMAND|nosuchcommand a "b c" d|NOSUCH "quote'd" "\x01bin"|GET|get|SET a|HSET|LPUSH x|OBJECT|XGROUP|MEMORY USAGE nokey
PUBLISH ch hello|TYPE nokey
RESTORE r1 0 notadump|RESTORE r1 -1 x|DEL s2 s2|FLUSHALL BOGUS
""".strip()
GROUPS = {"strings": STRINGS, "lists": LISTS, "hashes": HASHES, "sets": SETS, "sorted sets": SORTED_SETS, "others": OTHERS}


def script(text):
    """The commands of one of the texts above, with the escapes of redis-cli."""
    for line in text.replace("\n", "|").split("|"):
        arguments = shlex.split(line.replace("\\", "\\\\"))
        yield [argument.encode().decode("unicode_escape").encode("latin-1") for argument in arguments]


def setUpModule():
    global reference, single, cluster, sidecar, single_sidecar
    reference = RedisServer()
    single = RedisServer()
    cluster = Cluster(primaries=3)
    sidecar = Sidecar(cluster.url, unix_socket=True)
    single_sidecar = Sidecar(single.url, {"upstream.swapdb": "never"})


def tearDownModule():
    for server in (sidecar, single_sidecar, cluster, single, reference):
        server.close()


def flush_everything():
    for server in (reference, sidecar, single_sidecar):  # through the sidecars: a foreign flush takes effect a little later
        server.call("FLUSHALL")


class Case(unittest.TestCase):
    def setUp(self):
        flush_everything()
        self.clients = []

    def tearDown(self):
        for client in self.clients:
            client.close()
        for one in (sidecar, single_sidecar):
            if not one.alive:  # the other cases are judged for themselves
                code = one.process.poll()
                one.start()
                self.fail(f"the sidecar ended with {code}")

    def client(self, server=None, **options):
        client = (server or sidecar).client(**options)
        self.clients.append(client)
        return client

    def raw(self, client, *args):
        client.send(*args)
        return client.read_raw()

    def assert_as_redis(self, *commands, protocol=2):
        """The same bytes as from a plain redis-server, from one connection each."""
        ours, theirs = self.client(protocol=protocol), self.client(reference, protocol=protocol)
        for command in commands:
            with self.subTest(command=command, protocol=protocol):
                self.assertEqual(self.raw(ours, *command), self.raw(theirs, *command))


class CommandsOfOneKey(Case):
    def compare(self, server, protocol, pipelined):
        compared = 0
        for name, text in GROUPS.items():
            commands = list(script(text))
            ours, theirs = self.client(server, protocol=protocol), self.client(reference, protocol=protocol)
            if pipelined:
                for client in (ours, theirs):
                    client.raw(b"".join(encode(*command) for command in commands))
            for command in commands:
                if not pipelined:
                    ours.send(*command)
                    theirs.send(*command)
                with self.subTest(group=name, command=command):
                    self.assertEqual(ours.read_raw(), theirs.read_raw())
                compared += 1
        self.assertGreater(compared, 300)

    def test_resp2_replies_are_the_servers_bytes(self):
        self.compare(sidecar, 2, pipelined=False)

    def test_resp3_replies_are_the_servers_bytes(self):
        self.compare(sidecar, 3, pipelined=False)

    def test_resp2_replies_of_one_long_pipeline_are_the_servers_bytes(self):
        self.compare(sidecar, 2, pipelined=True)

    def test_resp3_replies_of_one_long_pipeline_are_the_servers_bytes(self):
        self.compare(sidecar, 3, pipelined=True)

    def test_a_single_server_behind_it_makes_no_difference(self):
        self.compare(single_sidecar, 2, pipelined=False)
        flush_everything()
        self.compare(single_sidecar, 3, pipelined=True)


class Greeting(Case):
    FIELDS = [b"server", b"version", b"proto", b"id", b"mode", b"role", b"modules"]

    def test_hello_3_answers_a_map_with_redis_fields(self):
        hello = self.client(protocol=3).hello
        self.assertEqual(list(hello), self.FIELDS)
        self.assertEqual(hello[b"server"], b"redis")
        # Valkey's own HELLO tells another version: this is the Redis that it says it is compatible with.
        self.assertEqual(hello[b"version"], reference.info("server")["redis_version"].encode())
        self.assertEqual(hello[b"proto"], 3)
        self.assertEqual(hello[b"role"], b"master")

    def test_hello_2_and_hello_without_arguments_answer_a_flat_array(self):
        client = self.client()
        for command in (("HELLO", 2), ("HELLO",)):
            reply = client.call(*command)
            self.assertIsInstance(reply, list)
            self.assertEqual(reply[::2], self.FIELDS)
            self.assertEqual(reply[5], 2)

    def test_hello_switches_the_protocol_in_the_middle_of_a_pipeline(self):
        client = self.client()
        client.raw(b"".join(encode(*c) for c in
                            [("GET", "absent"), ("HELLO", 3), ("GET", "absent"), ("HELLO", 2), ("GET", "absent")]))
        self.assertEqual(client.read_raw(), b"$-1\r\n")
        self.assertTrue(client.read_raw().startswith(b"%7\r\n"))
        self.assertEqual(client.read_raw(), b"_\r\n")
        self.assertTrue(client.read_raw().startswith(b"*14\r\n"))
        self.assertEqual(client.read_raw(), b"$-1\r\n")

    def test_wrong_hellos_get_the_servers_words(self):
        self.assert_as_redis(("HELLO", 4), ("HELLO", 1), ("HELLO", "x"), ("HELLO", ""), ("HELLO", 3, "BOGUS"),
                             ("HELLO", 3, "AUTH", "a"),
                             ("HELLO", 3, "SETNAME", "a b"), ("HELLO", 3, "AUTH", "nobody", "x"),
                             ("HELLO", 99999999999999999999))

    def test_wrong_auths_get_the_servers_words(self):
        self.assert_as_redis(("AUTH",), ("AUTH", "x"), ("AUTH", "nobody", "x"), ("AUTH", "a", "b", "c"),
                             ("AUTH", "default", "any"))

    def test_a_refused_auth_leaves_the_connection_usable(self):
        client = self.client()
        with self.assertRaisesRegex(ReplyError, "^WRONGPASS"):
            client.call("AUTH", "nobody", "x")
        self.assertEqual(client.call("SET", "k", "v"), b"OK")


class AnsweredHere(Case):
    def test_ping_echo_and_select_answer_as_redis(self):
        for protocol in (2, 3):
            self.assert_as_redis(("PING",), ("PING", "hi"), ("PING", "a", "b"), ("ECHO", "x"), ("ECHO",), ("ECHO", ""),
                                 ("SELECT", 0),
                                 ("SELECT", "x"), ("SELECT",), ("ping",), ("PiNg",), protocol=protocol)

    def test_quit_says_ok_and_closes_also_with_more_in_the_pipeline(self):
        self.assertEqual(exchange(sidecar.address, encode("PING") + encode("QUIT") + encode("PING"), half_close=False),
                         b"+PONG\r\n+OK\r\n")

    def test_reset_forgets_name_and_protocol(self):
        client = self.client(protocol=3)
        client.call("CLIENT", "SETNAME", "me")
        self.assertEqual(client.call("RESET"), b"RESET")
        self.assertEqual(self.raw(client, "GET", "absent"), b"$-1\r\n")
        self.assertEqual(self.raw(client, "CLIENT", "GETNAME"), self.raw(self.client(reference), "CLIENT", "GETNAME"))

    def test_client_ids_are_unique_and_grow(self):
        ids = [self.client().call("CLIENT", "ID") for _ in range(5)]
        self.assertEqual(sorted(set(ids)), ids)

    def test_client_names_are_kept_and_checked_as_redis_does(self):
        for protocol in (2, 3):
            self.assert_as_redis(("CLIENT", "GETNAME"), ("CLIENT", "SETNAME", "a b"), ("CLIENT", "SETNAME", "a"),
                                 ("CLIENT", "GETNAME"),
                                 ("CLIENT", "SETNAME", ""), ("CLIENT", "GETNAME"), ("CLIENT", "SETNAME", "x\ny"),
                                 ("CLIENT", "SETNAME"), ("CLIENT",), ("CLIENT", "ID", "x"), protocol=protocol)

    def test_client_info_and_setinfo_tell_of_this_connection(self):
        client = self.client()
        client.call("CLIENT", "SETNAME", "tester")
        client.call("CLIENT", "SETINFO", "LIB-NAME", "lib")
        client.call("CLIENT", "SETINFO", "LIB-VER", "1.2")
        info = client.call("CLIENT", "INFO")
        port = client.sock.getsockname()[1]
        for part in (b"id=%d " % client.call("CLIENT", "ID"), b"name=tester ", b"addr=127.0.0.1:%d " % port,
                     b"lib-name=lib ",
                     b"lib-ver=1.2", b"resp=2 ", b"user=default"):
            self.assertIn(part, info)
        for wrong in (("SETINFO", "BOGUS", "x"), ("SETINFO", "LIB-NAME", "a b"), ("SETINFO", "LIB-NAME")):
            with self.assertRaises(ReplyError):
                client.call("CLIENT", *wrong)

    def test_command_count_info_and_docs_are_the_upstreams(self):
        for protocol in (2, 3):
            self.assert_as_redis(("COMMAND", "COUNT"), ("COMMAND", "INFO", "get", "mset", "nosuch"),
                                 ("COMMAND", "DOCS", "get"),
                                 ("COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"), ("COMMAND", "INFO"[:3]),
                                 protocol=protocol)

    def test_info_is_the_upstreams_text_with_a_section_of_its_own(self):
        client = self.client()
        for sections in ((), ("everything",), ("all",)):
            text = client.call("INFO", *sections).decode()
            self.assertIn("redis_version:", text)
            self.assertIn("# Server\r\n", text)
            self.assertIn("\r\n# nearcached\r\n", text)
            self.assertIn("nearcached_l1_hits:", text)
        own = client.call("INFO", "nearcached").decode()
        self.assertTrue(own.startswith("# nearcached\r\n"))
        self.assertNotIn("redis_version", own)
        self.assertNotIn("# nearcached", client.call("INFO", "server").decode())

    def test_info_for_resp3_is_verbatim_as_the_upstreams(self):
        self.assertTrue(self.raw(self.client(protocol=3), "INFO").startswith(b"="))
        self.assertTrue(self.raw(self.client(reference, protocol=3), "INFO").startswith(b"="))
        self.assertEqual(self.raw(self.client(protocol=3), "INFO", "nearcached")[:1], b"=")


class Errors(Case):
    def test_wrong_arity_has_the_servers_words(self):
        self.assert_as_redis(("GET",), ("get", "a", "b"), ("SET", "a"), ("MGET",), ("MSET", "a"), ("DEL",), ("EXISTS",),
                             ("HGET", "a"), ("CLIENT", "ID", "x"), ("CONFIG", "GET"), ("OBJECT", "ENCODING"),
                             ("DBSIZE", "x"),
                             ("XGROUP", "CREATE", "a"), ("AUTH",), ("SUBSCRIBE",), ("BLPOP", "a"), ("WAIT", "1"),
                             ("SCRIPT", "LOAD"))

    def test_msets_of_half_a_pair_have_the_servers_words(self):
        self.assert_as_redis(("MSET", "a", "1", "b"), ("MSET", "a", "1", "b", "2", "c"), ("MSETNX", "{a}1", "1", "{a}2"),
                             ("GET", "a"))

    def test_unknown_commands_have_the_servers_words(self):
        self.assert_as_redis(("FOO",), ("foo", "a", "b c"), ("FOO", "x" * 300), ("", "a"), ("FOO\r\nBAR", "a\r\nb"),
                             ("GET ", "a"),
                             ("F" * 500, "a"), ("\x00",), ("FOO", *map(str, range(100))))

    def test_unknown_subcommands_have_the_servers_words(self):
        self.assert_as_redis(("CLIENT", "BOGUS"), ("CONFIG", "BOGUS"), ("OBJECT", "BOGUS", "k"), ("XINFO", "BOGUS", "k"),
                             ("SCRIPT", "BOGUS"),
                             ("COMMAND", "BOGUS"), ("MEMORY", "BOGUS"), ("PUBSUB", "BOGUS"), ("SLOWLOG", "BOGUS"),
                             ("ACL", "BOGUS"))

    def test_what_is_refused_says_so_and_the_connection_goes_on(self):
        client = self.client()
        for command in ("SHUTDOWN", "SHUTDOWN NOSAVE", "REPLICAOF NO ONE", "SLAVEOF a 1", "CLUSTER RESET",
                        "CLUSTER FAILOVER", "PSYNC ? -1", "SYNC", "FAILOVER"):
            with self.subTest(command=command):
                with self.assertRaisesRegex(ReplyError, "nearcached"):
                    client.call(*command.split())
                self.assertEqual(client.call("ECHO", command), command.encode())
        self.assertTrue(all(node.alive for node in cluster.nodes))

    def test_what_is_refused_leaves_the_order_of_a_pipeline_alone(self):
        replies = self.client().pipeline([("SET", "a", 1), ("SHUTDOWN",), ("GET", "a"), ("FAILOVER",), ("INCR", "a"),
                                          ("REPLICAOF", "NO", "ONE")])
        self.assertEqual([r for r in replies if not isinstance(r, ReplyError)], [b"OK", b"1", 2])
        self.assertEqual([isinstance(r, ReplyError) for r in replies], [False, True, False, True, False, True])

    def test_protocol_errors_have_the_servers_words_and_close(self):
        for data in (b"*1\r\n:5\r\n", b"*1\r\n$-1\r\n", b"*99999999999\r\n", b"*1\r\n$9999999999\r\n", b"*x\r\n",
                     b"SET \"k v\r\n", b"*1\r\n$4\r\nPING\r\n*1\r\n$x\r\n"):
            with self.subTest(data=data):
                self.assertEqual(exchange(sidecar.address, data, half_close=False),
                                 exchange(reference.address, data, half_close=False))


class Inline(Case):
    def test_inline_commands_are_taken_as_redis_takes_them(self):
        for data in (b"PING\r\n", b"PING\n", b"\r\n\r\nPING\r\n", b"  PING  \r\n", b"ECHO 'a b'\r\n",
                     b'ECHO "a\\x41\\n\\"b"\r\n', b"ECHO 'it\\'s'\r\n",
                     b"SET inline 'x y'\r\nGET inline\r\nSTRLEN inline\r\n", b"ECHO a\tb\r\n", b'ECHO "a"b\r\n',
                     b"ECHO 'a\r\n", b"NOSUCH a b\r\n", b"GET\r\n",
                     b"MSET il1 1 il2 2 il3 3\r\nMGET il1 il2 il3 il4\r\n", b"*0\r\nPING\r\n", b"*-1\r\nPING\r\n",
                     b"*-2\r\n$4\r\nPING\r\n", b"PING\r\n*1\r\n$4\r\nPING\r\nPING\r\n",
                     b'SET "" e\r\nGET ""\r\n', b"ECHO ''\r\n"):
            with self.subTest(data=data):
                self.assertEqual(exchange(sidecar.address, data), exchange(reference.address, data))


class Nulls(Case):
    def test_each_protocol_has_its_own_null_miss_hit_and_merged(self):
        self.client().call("LPUSH", "list", 1)
        for _ in range(3):
            self.assert_as_redis(("GET", "no"), ("MGET", "no", "no2", "list"), ("HGET", "no", "f"), ("LPOP", "no", 2),
                                 ("ZSCORE", "no", "m"))
            self.assert_as_redis(("GET", "no"), ("MGET", "no", "no2", "list"), ("HGET", "no", "f"), ("LPOP", "no", 2),
                                 ("ZSCORE", "no", "m"),
                                 protocol=3)


class Pipelines(Case):
    def random_command(self, rng):
        keys = [f"p{rng.randrange(40)}" for _ in range(rng.randrange(1, 6))]
        key, value = keys[0], str(rng.randrange(10**rng.randrange(1, 20)))
        pairs = [part for k in keys for part in (k, rng.randrange(1000))]
        return rng.choice([
            ("PING",), ("ECHO", value), ("CLIENT", "GETNAME"), ("CLIENT", "SETNAME", f"n{value}"),
            ("GET", key), ("GET", key), ("GET", key), ("GET", key), ("MGET", *keys), ("MGET", *keys), ("MSET", *pairs),
            ("SET", key, value), ("SET", key, value), ("SET", key, "x" * rng.randrange(3000)), ("APPEND", key, "+"),
            ("STRLEN", key),
            ("INCR", key), ("DEL", *keys), ("UNLINK", *keys), ("EXISTS", *keys), ("TOUCH", *keys), ("GETSET", key, value),
            ("LPUSH", f"l{key}", value), ("LRANGE", f"l{key}", 0, -1), ("HSET", f"h{key}", "f", value),
            ("HGETALL", f"h{key}"),
            ("GET", f"l{key}"), ("MGET", f"l{key}", *keys), ("NOSUCH", key), ("GET",), ("MSET", key), ("GETDEL", key),
            ("SETNX", key, value),
        ])

    def test_replies_come_in_order_and_as_redis_gives_them(self):
        for seed in range(4):
            rng = random.Random(seed)
            commands = [self.random_command(rng) for _ in range(2000)]
            protocol = 2 + seed % 2
            flush_everything()
            ours, theirs = self.client(protocol=protocol), self.client(reference, protocol=protocol)
            data = b"".join(encode(*command) for command in commands)
            for client in (ours, theirs):
                client.raw(data)
            for i, command in enumerate(commands):
                self.assertEqual(ours.read_raw(), theirs.read_raw(), f"seed {seed}, command {i}: {command}")

    def test_a_read_does_not_see_the_write_behind_it(self):
        client = self.client()
        for i in range(300):
            replies = client.pipeline([("GET", f"g{i}"), ("SET", f"g{i}", 1), ("MGET", f"m{i}", f"n{i}"),
                                       ("MSET", f"m{i}", 1, f"n{i}", 1),
                                       ("GET", f"g{i}"), ("DEL", f"g{i}"), ("GET", f"g{i}")])
            self.assertEqual(replies, [None, b"OK", [None, None], b"OK", b"1", 1, None])

    def test_a_pipeline_cut_anywhere_is_the_same_pipeline(self):
        rng = random.Random(99)
        commands = [self.random_command(rng) for _ in range(300)]
        ours, theirs = self.client(), self.client(reference)
        data = b"".join(encode(*command) for command in commands)
        theirs.raw(data)
        while data:
            size = rng.choice([1, 2, 3, 7, 50, 1000])
            ours.raw(data[:size])
            data = data[size:]
        for i, command in enumerate(commands):
            self.assertEqual(ours.read_raw(), theirs.read_raw(), f"command {i}: {command}")

    def test_large_values_come_back_whole_among_small_ones(self):
        client = self.client()
        big = bytes(random.Random(1).randbytes(3_000_000))
        replies = client.pipeline([("SET", "big", big), ("PING",), ("GET", "big"), ("GET", "no"), ("MGET", "big", "no"),
                                   ("STRLEN", "big")])
        self.assertEqual(replies, [b"OK", b"PONG", big, None, [big, None], len(big)])

    def test_mset_and_mget_of_thousands_of_keys(self):
        client = self.client()
        keys = [f"many{i}" for i in range(5000)]
        self.assertEqual(client.call("MSET", *[part for key in keys for part in (key, key)]), b"OK")
        for _ in range(2):
            self.assertEqual(client.call("MGET", *keys), [key.encode() for key in keys])
        self.assertEqual(client.call("DEL", *keys), 5000)


class Connections(Case):
    def test_a_client_that_has_finished_sending_still_gets_its_replies(self):
        self.client().call("SET", "a", "value")
        for data, expected in ((encode("GET", "a"), b"$5\r\nvalue\r\n"), (b"GET a\r\n", b"$5\r\nvalue\r\n"),
                               (encode("STRLEN", "a"), b":5\r\n"),
                               (encode("MGET", "a", "b", "c"), b"*3\r\n$5\r\nvalue\r\n$-1\r\n$-1\r\n"),
                               (encode("PING") * 500, b"+PONG\r\n" * 500),
                               (encode("STRLEN", "a") * 3000, b":5\r\n" * 3000), (b"", b""),
                               (encode("NOSUCHTHING")[:9], b"")):
            for _ in range(3):
                self.assertEqual(exchange(sidecar.address, data), expected)

    def test_the_unix_socket_serves_as_well(self):
        client = self.client(unix=True)
        client.call("SET", "u", "1")
        self.assertEqual(client.pipeline([("GET", "u"), ("PING",), ("MGET", "u", "v")]), [b"1", b"PONG", [b"1", None]])
        self.assertEqual(self.client().call("GET", "u"), b"1")

    def test_several_listeners_serve_the_same(self):
        with Sidecar(cluster.url, unix_socket=True, args=["--listen", "127.0.0.1:0"], start=False) as many:
            extra = socket.socket()
            extra.bind(("127.0.0.1", 0))
            port = extra.getsockname()[1]
            extra.close()
            many.args = ["--listen", f"127.0.0.1:{port}"]
            many.start()
            for address in (many.address, f"127.0.0.1:{port}", f"unix:{many.socket_path}"):
                with Client(address, timeout=PATIENCE_S) as client:
                    self.assertEqual(client.call("PING"), b"PONG")

    def test_a_hundred_connections_at_once_each_get_their_own(self):
        clients = [self.client(protocol=2 + i % 2) for i in range(100)]
        for round_number in range(5):
            for i, client in enumerate(clients):
                client.raw(b"".join(encode(*c) for c in [("SET", f"c{i}", f"{round_number}:{i}"), ("GET", f"c{i}"),
                                                         ("ECHO", i), ("MGET", f"c{i}", "no")]))
            for i, client in enumerate(clients):
                mine = b"%d:%d" % (round_number, i)
                self.assertEqual([client.read() for _ in range(4)], [b"OK", mine, b"%d" % i, [mine, None]])


if __name__ == "__main__":
    main()
