"""Sequences by hand: what a generator rarely says, and what was once different. Lines as in a script of shrinker.py."""

from shrinker import read_script

FOUND = {
    "an EXEC of wrong arity aborts": '''
        [0, [["EXEC", "x"]]]
        [0, [["MULTI"], ["SET", "s0", "1"], ["EXEC", "x"], ["EXEC"], ["GET", "s0"]]]
        [0, [["WATCH", "s0"]]]
        [1, [["SET", "s0", "2"]]]
        [0, [["EXEC", "x"], ["MULTI"], ["SET", "s0", "3"], ["EXEC"], ["GET", "s0"]]]
        ''',
    "a table's name of a subcommand is no command": '''
        [0, [["CLIENT|ID"], ["config|get", "x"], ["get|x", "y"]]]
        ''',
    "a subscriber in RESP2 is told first what is wrong with the command itself": '''
        [0, [["SUBSCRIBE", "c"]]]
        [0, [["GET"], ["WATCH"], ["PING", "a", "b"], ["NONSENSE"], ["CLIENT", "nonsense"], ["GET", "s0"], ["EXEC"], ["EXEC", "x"]]]
        [0, [["UNSUBSCRIBE"], ["GET", "s0"]]]
        ''',
    "a subscriber's messages are of the version it speaks now": '''
        [0, [["HELLO", "3"], ["SUBSCRIBE", "a"], ["HELLO", "2"], ["PSUBSCRIBE", "b*"]]]
        [1, [["PUBLISH", "a", "1"], ["PUBLISH", "b1", "2"]]]
        [0, [["UNSUBSCRIBE"], ["PUNSUBSCRIBE"], ["HELLO", "2"], ["SUBSCRIBE", "a"]]]
        [0, [["HELLO", "3"]]]
        [0, [["RESET"], ["HELLO", "2"], ["SUBSCRIBE", "a"]]]
        [1, [["PUBLISH", "a", "3"]]]
        [0, [["UNSUBSCRIBE"], ["HELLO", "3"], ["SUBSCRIBE", "b"], ["GET", "s0"]]]
        [1, [["PUBLISH", "b", "4"]]]
        [0, [["UNSUBSCRIBE", "b"]]]
        ''',
    "a watch behind a WAIT that was the client's first command": '''
        [0, [["WAIT", "0", "0"]]]
        [0, [["WATCH", "k"]]]
        [1, [["SET", "k", "2"]]]
        [0, [["MULTI"], ["GET", "k"], ["EXEC"]]]
        [2, [["WAIT", "0", "-1"], ["WATCH", "k"], ["MULTI"], ["GET", "k"], ["EXEC"], ["HELLO", "-0"], ["HELLO", "03"]]]
        ''',
    "a watch outlives a subscription, a blocking command and WAIT": '''
        [0, [["HELLO", "3"], ["SET", "k", "1"], ["WATCH", "k"]]]
        [0, [["PSUBSCRIBE", "p*"]]]
        [1, [["SET", "k", "2"]]]
        [0, [["MULTI"], ["SET", "k", "3"], ["EXEC"]]]
        [0, [["WATCH", "k"], ["BLPOP", "l0", "0.01"], ["WAIT", "0", "0"]]]
        [1, [["BLPOP", "l0", "0.01"], ["WATCH", "other"], ["UNWATCH"], ["SET", "k", "4"]]]
        [0, [["MULTI"], ["SET", "k", "5"], ["EXEC"], ["GET", "k"]]]
        ''',
}

RULES = {
    "requests that break the protocol close the connection": '''
        [0, [["PING"], ["\\u0000raw", "*1\\r\\n+PING\\r\\n"]]]
        [1, [["\\u0000raw", "*x\\r\\n"]]]
        [2, [["\\u0000raw", "*1\\r\\n$-5\\r\\n"]]]
        [3, [["\\u0000raw", "*2\\r\\n$3\\r\\nGET\\r\\n$99999999999\\r\\n"]]]
        [0, [["QUIT"]]]
        [0, [["PING"], ["QUIT"]]]
        ''',
    "inline commands": '''
        [0, [["\\u0000raw", "SET s0 \\"a\\\\x41 \\\\n\\"\\r\\n"], ["GET", "s0"]]]
        [0, [["\\u0000raw", "GET s0\\n"]]]
        [0, [["\\u0000raw", "ECHO \\"open\\r\\n"]]]
        ''',
    "a chunk that is cut at every byte": '''
        [0, [["SET", "s0", "v"], ["GET", "s0"]], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29]]
        [0, [["GET", "s0"], ["GET", "s0"]], [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25]]
        ''',
    "replies that are wanted and are not": '''
        [0, [["CLIENT", "REPLY", "OFF"], ["SET", "s0", "1"], ["NONSENSE"], ["GET", "s0"], ["CLIENT", "REPLY", "ON"], ["GET", "s0"]]]
        [0, [["CLIENT", "REPLY", "SKIP"], ["INCR", "s0"], ["GET", "s0"], ["CLIENT", "REPLY", "SKIP"], ["CLIENT", "REPLY", "ON"]]]
        ''',
    "a script that fails half way leaves what it wrote": '''
        [0, [["SET", "s0", "1"], ["GET", "s0"], ["GET", "s0"]]]
        [0, [["EVAL", "redis.call('SET',KEYS[1],'2') return redis.call('LPUSH',KEYS[1],'x')", "1", "s0"]]]
        [1, [["GET", "s0"]]]
        ''',
    "a write by any name is seen by every connection": '''
        [0, [["SET", "s0", "1"], ["LPUSH", "l0", "3", "1", "2"]]]
        [1, [["GET", "s0"], ["LRANGE", "l0", "0", "-1"]]]
        [1, [["GET", "s0"], ["LRANGE", "l0", "0", "-1"]]]
        [2, [["SORT", "l0", "STORE", "l0"], ["RENAME", "s0", "s1"], ["COPY", "l0", "s0"]]]
        [1, [["GET", "s0"], ["LRANGE", "l0", "0", "-1"], ["TYPE", "s0"]]]
        [2, [["EVAL", "return redis.call('DEL', 'l0')", "0"]]]
        [1, [["LRANGE", "l0", "0", "-1"]]]
        [2, [["FLUSHALL"]]]
        [1, [["TYPE", "s0"]]]
        ''',
}


def sequences():
    """(name, sequence), each in both protocols unless it says HELLO itself."""
    for name, text in {**FOUND, **RULES}.items():
        sequence = read_script("\n".join(line.strip() for line in text.splitlines()))
        yield name, sequence
        if "HELLO" not in text and "SUBSCRIBE" not in text:
            yield f"{name} (RESP3)", [step for c in range(4) for step in [(c, [(b"HELLO", b"3")], [])]] + sequence
