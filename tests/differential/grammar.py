"""What the generator says: for each group, forms of commands.

A form is words. Lower or upper case words are sent as they are; the rest:

    @s      a key, mostly one of that type: s string, b bitmap, p HyperLogLog, l list, h hash, e set, z sorted set, x stream,
            g geo, a any, y always a sorted set of equal scores (BYLEX is defined for no other).   #z  a number of keys and the keys
    :v      a random value of that kind (generator.VALUES)
    ( A | B )   one of them       ?( A | B )   one of them or nothing       +( A )   A once to four times

Before a form: `!` its words are never spoiled (a spoilt one would block for ever, or make random data), `~` not before a
cluster (it has no key, or answers for one node), `*` more than once as often as the others per star. `=` says a read: it is often repeated, so that
the second is a hit.
"""

GROUPS = {
    "strings": """
        ** SET @s :v
        * SET @s :v ( EX :far | PX :farms | EXAT :farat | PXAT :faratms | KEEPTTL ) ?( NX | XX | GET | XX GET | NX GET )
        SET @s :v +( NX | XX | GET | KEEPTTL )
        * SET @s :int
        =** GET @s
        = GETRANGE @s :index :index
        = SUBSTR @s :index :index
        = STRLEN @s
        =* MGET @s @s ?( @s @a )
        MSET +( @s :v )
        MSETNX +( @s :v )
        SETNX @s :v
        SETEX @s :far :v
        PSETEX @s :farms :v
        GETSET @s :v
        GETDEL @s
        ! GETEX @s ?( EX :far | PX :farms | PERSIST | EXAT :farat )
        APPEND @s :v
        ! SETRANGE @s :offset :v
        INCR @s
        DECR @s
        INCRBY @s :int
        DECRBY @s :int
        INCRBYFLOAT @s :float
        = LCS @s @s ?( LEN | IDX | IDX MINMATCHLEN :count WITHMATCHLEN )
        """,
    "bits": """
        * SETBIT @b :offset :bit
        = GETBIT @b :offset
        = BITCOUNT @b ?( :index :index | :index :index BYTE | :index :index BIT | :index )
        = BITPOS @b :bit ?( :index | :index :index | :index :index BIT )
        BITOP ( AND | OR | XOR ) @b @b @b
        BITOP NOT @b @b
        BITFIELD @b +( GET :bittype :offset | SET :bittype :offset :int | INCRBY :bittype :hash :int | OVERFLOW :overflow )
        = BITFIELD_RO @b +( GET :bittype :offset )
        """,
    "hyperloglog": """
        * PFADD @p +( :m )
        = PFCOUNT @p ?( @p )
        PFMERGE @p @p ?( @p )
        = STRLEN @p
        """,
    "lists": """
        ** LPUSH @l +( :v )
        ** RPUSH @l +( :v )
        LPUSHX @l :v
        RPUSHX @l :v
        LPOP @l ?( :count )
        RPOP @l ?( :count )
        =** LRANGE @l :index :index
        = LRANGE @l 0 -1
        = LLEN @l
        = LINDEX @l :index
        LINSERT @l ( BEFORE | AFTER ) :v :v
        LSET @l :index :v
        LREM @l :index :v
        LTRIM @l :index :index
        = LPOS @l :v ?( RANK :index ) ?( COUNT :count ) ?( MAXLEN :count )
        RPOPLPUSH @l @l
        LMOVE @l @l ( LEFT | RIGHT ) ( LEFT | RIGHT )
        LMPOP #l ( LEFT | RIGHT ) ?( COUNT :count )
        """,
    "hashes": """
        ** HSET @h +( :f :v )
        HMSET @h +( :f :v )
        HSETNX @h :f :v
        =* HGET @h :f
        = HMGET @h +( :f )
        =* HGETALL @h
        = HKEYS @h
        = HVALS @h
        = HLEN @h
        = HEXISTS @h :f
        = HSTRLEN @h :f
        HDEL @h +( :f )
        HSET @h :f :int
        HINCRBY @h :f :int
        HINCRBYFLOAT @h :f :float
        ! HRANDFIELD @h 100000 ?( WITHVALUES )
        ! HRANDFIELD @h 0
        """,
    "sets": """
        ** SADD @e +( :m )
        SADD @e +( :int )
        SREM @e +( :m )
        =* SMEMBERS @e
        = SISMEMBER @e :m
        = SMISMEMBER @e +( :m )
        = SCARD @e
        SMOVE @e @e :m
        = SINTER @e ?( @e )
        = SUNION @e ?( @e )
        = SDIFF @e ?( @e )
        SINTERSTORE @e @e ?( @e )
        SUNIONSTORE @e @e ?( @e )
        SDIFFSTORE @e @e ?( @e )
        = SINTERCARD #e ?( LIMIT :count )
        ! SPOP @e 100000
        ! SRANDMEMBER @e 100000
        """,
    "zsets": """
        ** ZADD @z +( :score :m )
        ZADD @z ?( NX | XX ) ?( GT | LT ) ?( CH ) ?( INCR ) :score :m
        =** ZRANGE @z :index :index ?( REV ) ?( WITHSCORES )
        = ZRANGE @z :bound :bound BYSCORE ?( REV ) ?( LIMIT :index :index ) ?( WITHSCORES )
        ! ZADD @y +( 0 :m )
        = ZRANGE @y :lex :lex BYLEX ?( REV ) ?( LIMIT :index :index )
        ZRANGESTORE @z @z :index :index
        = ZREVRANGE @z :index :index ?( WITHSCORES )
        = ZRANGEBYSCORE @z :bound :bound ?( WITHSCORES ) ?( LIMIT :index :index )
        = ZREVRANGEBYSCORE @z :bound :bound ?( WITHSCORES )
        = ZRANGEBYLEX @y :lex :lex
        = ZREVRANGEBYLEX @y :lex :lex ?( LIMIT :index :index )
        = ZLEXCOUNT @y :lex :lex
        =* ZSCORE @z :m
        = ZMSCORE @z +( :m )
        != ZRANK @z :m
        != ZREVRANK @z :m
        = ZCARD @z
        = ZCOUNT @z :bound :bound
        ZINCRBY @z :score :m
        ZREM @z +( :m )
        ZREMRANGEBYRANK @z :index :index
        ZREMRANGEBYSCORE @z :bound :bound
        ! ZREMRANGEBYLEX @y :lex :lex
        ZPOPMIN @z ?( :count )
        ZPOPMAX @z ?( :count )
        ZMPOP #z ( MIN | MAX ) ?( COUNT :count )
        = ZUNION #z ?( WEIGHTS :float :float ) ?( AGGREGATE ( SUM | MIN | MAX ) ) ?( WITHSCORES )
        = ZINTER #z ?( AGGREGATE ( SUM | MIN | MAX ) ) ?( WITHSCORES )
        = ZDIFF #z ?( WITHSCORES )
        ZUNIONSTORE @z #z ?( AGGREGATE ( SUM | MIN | MAX ) )
        ZINTERSTORE @z #z ?( WEIGHTS :float :float )
        ZDIFFSTORE @z #z
        = ZINTERCARD #z ?( LIMIT :count )
        ! ZRANDMEMBER @z 100000 ?( WITHSCORES )
        """,
    "streams": """
        !** XADD @x :newid +( :f :v )
        ! XADD @x ?( NOMKSTREAM ) ?( MAXLEN = :count | MAXLEN 100 | MINID = :id ) :id +( :f :v )
        ! XADD @x :id :f
        =* XRANGE @x :idbound :idbound ?( COUNT :count )
        = XREVRANGE @x :idbound :idbound ?( COUNT :count )
        = XRANGE @x - +
        = XLEN @x
        XDEL @x +( :id )
        XTRIM @x ( MAXLEN | MAXLEN = | MINID ) :count
        XSETID @x :id ?( ENTRIESADDED :count MAXDELETEDID :id )
        ! XREAD ?( COUNT :count ) STREAMS @x :id
        ! XREAD ?( COUNT :count ) STREAMS @x @x :id :id
        * XGROUP CREATE @x :group ( $ | 0 | :id ) ?( MKSTREAM ) ?( ENTRIESREAD :count )
        XGROUP SETID @x :group ( $ | 0 | :id )
        XGROUP CREATECONSUMER @x :group :consumer
        XGROUP DELCONSUMER @x :group :consumer
        XGROUP DESTROY @x :group
        !** XREADGROUP GROUP :group :consumer ?( COUNT :count ) ?( NOACK ) STREAMS @x ( > | > | 0 | :id )
        XACK @x :group +( :id )
        XPENDING @x :group ?( - + :count | - + :count :consumer | IDLE 0 - + :count )
        XCLAIM @x :group :consumer 0 :id ?( FORCE ) ?( JUSTID ) ?( RETRYCOUNT :count ) ?( LASTID :id )
        XAUTOCLAIM @x :group :consumer 0 :id ?( COUNT :count ) ?( JUSTID )
        XINFO STREAM @x ?( FULL ?( COUNT :count ) )
        XINFO GROUPS @x
        XINFO CONSUMERS @x :group
        """,
    "geo": """
        ** GEOADD @g ?( NX | XX ) ?( CH ) +( :longitude :latitude :m )
        = GEODIST @g :m :m ?( m | km | ft | mi | parsec )
        = GEOHASH @g +( :m )
        = GEOPOS @g +( :m )
        = GEOSEARCH @g ( FROMMEMBER :m | FROMLONLAT :longitude :latitude ) ( BYRADIUS :radius km | BYBOX :radius :radius km ) ?( ASC | DESC ) ?( COUNT :count ) ?( WITHCOORD ) ?( WITHDIST ) ?( WITHHASH )
        GEOSEARCHSTORE @g @g FROMMEMBER :m BYRADIUS :radius km ?( STOREDIST )
        GEORADIUS @g :longitude :latitude :radius km ?( WITHDIST ) ?( ASC ) ?( STORE @g )
        = GEORADIUS_RO @g :longitude :latitude :radius km ?( WITHDIST ) ASC
        = GEORADIUSBYMEMBER_RO @g :m :radius km ?( WITHCOORD ) ASC
        """,
    "keys": """
        ** DEL @a
        DEL @a @a
        UNLINK @a @a
        =* EXISTS @a
        = EXISTS @a @a @a
        = TYPE @a
        TOUCH @a @a
        RENAME @a @a
        RENAMENX @a @a
        * COPY @a @a ?( REPLACE )
        ! EXPIRE @a ( :far | -1 ) ?( NX | XX | GT | LT )
        ! PEXPIRE @a ( :farms | 0 )
        ! EXPIREAT @a ( :farat | 1 )
        ! PEXPIREAT @a ( :faratms | 1 )
        * PERSIST @a
        = TTL @a
        = PTTL @a
        EXPIRETIME @a
        PEXPIRETIME @a
        OBJECT ENCODING @a
        OBJECT REFCOUNT @s
        OBJECT IDLETIME @a
        OBJECT FREQ @a
        OBJECT HELP
        DUMP @a
        RESTORE @a :farms :dump ?( REPLACE )
        MEMORY USAGE @a
        SORT @l ?( ALPHA ) ?( ASC | DESC ) ?( LIMIT :index :index )
        = SORT_RO @l ALPHA ?( LIMIT :index :index )
        SORT @e ALPHA STORE @l
        SORT @z ALPHA
        ~ SORT @l BY :pattern GET # GET :pattern ALPHA
        """,
    "keyspace": """
        ~ DBSIZE
        ~ KEYS ( * | s* | ?0 | [a-m]* | :pattern )
        ~ RANDOMKEY
        !~ SCAN 0 COUNT 100000 ?( MATCH ( s* | *0 ) ) ?( TYPE ( string | hash | zset | nonsense ) )
        ! SSCAN @e 0 COUNT 100000 ?( MATCH *1* )
        ! HSCAN @h 0 COUNT 100000 ?( MATCH f* )
        ! ZSCAN @z 0 COUNT 100000
        ! SSCAN @e ( x | 0 COUNT 0 | 0 COUNT x | 0 NONSENSE )
        ! HSCAN @h ( x | 0 COUNT -1 | 0 MATCH )
        """,
    "flush": """
        ~ FLUSHALL
        ~ FLUSHDB
        ~ FLUSHDB ASYNC
        ~ FLUSHALL nonsense
        """,
    "scripts": """
        !** EVAL :script 1 @s :v
        !* EVAL :script 2 @l @h :v
        !* EVAL_RO :readscript 1 @s
        !~ EVALSHA :sha 1 @s :v
        ! EVAL :badscript 1 @s :v
        EVAL :script :count @s
        EVALSHA nonsense 0
        ~ SCRIPT EXISTS :sha :sha
        SCRIPT LOAD :script
        SCRIPT LOAD nonsense(
        ~ SCRIPT FLUSH
        SCRIPT HELP
        SCRIPT nonsense
        ! FUNCTION LOAD ?( REPLACE ) :library
        ! FCALL :function 1 @s :v
        ! FCALL_RO :function 1 @s
        FCALL nonsense 0
        FUNCTION LIST ?( LIBRARYNAME lib0 ) ?( WITHCODE )
        ~ FUNCTION FLUSH
        FUNCTION DELETE lib0
        FUNCTION nonsense
        """,
    "server": """
        PING
        PING :v
        ECHO :v
        TIME
        COMMAND COUNT
        COMMAND INFO ( get | set | xgroup | config|get | nonsense | eval zadd )
        COMMAND GETKEYS ( GET a | MSET a b c d | EVAL x 1 k v | nonsense | SORT a STORE b | ZUNION 2 a b )
        COMMAND GETKEYSANDFLAGS ( GET a | SET a b GET | COPY a b )
        COMMAND LIST FILTERBY ( ACLCAT hyperloglog | PATTERN x* | MODULE none )
        COMMAND DOCS ( get | set | nonsense )
        COMMAND nonsense
        COMMAND HELP
        CONFIG GET ( maxmemory | hash-max-* | nonsense | maxmemory appendonly )
        CONFIG SET ( hash-max-listpack-entries 64 | nonsense 1 | hash-max-listpack-entries x | maxmemory-policy allkeys-lru )
        CONFIG SET maxmemory-policy noeviction
        CONFIG RESETSTAT
        CONFIG nonsense
        INFO
        INFO ( keyspace | server | nonsense | everything )
        ACL WHOAMI
        ACL CAT geo
        ACL nonsense
        ACL GETUSER nonsense
        LASTSAVE
        ROLE nonsense
        LATENCY LATEST
        LATENCY RESET
        LATENCY nonsense
        SLOWLOG LEN
        SLOWLOG GET nonsense
        SLOWLOG nonsense
        MEMORY nonsense
        MEMORY DOCTOR x
        MODULE LIST
        OBJECT nonsense @a
        XGROUP nonsense @x
        XINFO nonsense @x
        LOLWUT VERSION 5 1 1 1
        """,
    "connection": """
        CLIENT ID
        CLIENT GETNAME
        * CLIENT SETNAME ( name | :v | :nothing )
        CLIENT nonsense
        CLIENT INFO
        CLIENT LIST
        HELLO
        !** HELLO ( 2 | 3 )
        HELLO ( 1 | 4 | x | 3 SETNAME n | 3 NONSENSE | 2 SETNAME )
        HELLO 3 AUTH default
        ! RESET
        ! RESET x
        AUTH
        AUTH a b c
        AUTH nonsense
        AUTH default nonsense
        PING a b
        ECHO
        ECHO a b
        ! QUIT
        ! QUIT x
        """,
    "unknown": """
        NONSENSE
        NONSENSE +( :v )
        :v
        get|x @s
        CLIENT|ID
        "GET" @s
        GET
        SET @s
        !* RAW :inline
        ! RAW :broken
        """,
    "blocking": """
        !** BLPOP @l @l 0.01
        ! BRPOP @l 0.01
        ! BLMOVE @l @l LEFT RIGHT 0.01
        ! BRPOPLPUSH @l @l 0.01
        ! BLMPOP 0.01 #l LEFT ?( COUNT :count )
        ! BZPOPMIN @z 0.01
        ! BZPOPMAX @z @z 0.01
        ! BZMPOP 0.01 #z MIN
        ! XREAD BLOCK 10 STREAMS @x :id
        ! XREADGROUP GROUP :group :consumer BLOCK 10 STREAMS @x >
        ! BLPOP @l ( -1 | x | nan )
        ! BLPOP @l
        ! XREAD BLOCK -1 STREAMS @x $
        ! WAIT 0 0
        ! WAIT 0 10
        ! WAIT x 1
        ! WAIT 0 -1
        """,
    "databases": """
        !**** SELECT ( 0 | 1 | 2 )
        SELECT ( x | -1 | 16 )
        * MOVE @a ( 0 | 1 | 2 )
        MOVE @a ( x | 99 | -1 )
        COPY @a @a DB ( 0 | 1 | 2 | 99 ) ?( REPLACE )
        SWAPDB ( 0 | 1 | 2 ) ( 0 | 1 | 2 )
        SWAPDB ( x | 99 ) 0
        """,
    "pubsub": """
        ! SUBSCRIBE +( :channel )
        ! PSUBSCRIBE +( :channelpattern )
        ! SSUBSCRIBE :channel
        !* UNSUBSCRIBE ?( :channel )
        !* PUNSUBSCRIBE ?( :channelpattern )
        ! SUNSUBSCRIBE ?( :channel )
        !**** PUBLISH :channel :v
        !* SPUBLISH :channel :v
        PUBSUB CHANNELS ?( * | c* )
        PUBSUB NUMSUB :channel :channel
        PUBSUB NUMPAT
        PUBSUB SHARDNUMSUB :channel
        PUBSUB nonsense
        SUBSCRIBE
        PUBLISH x
        """,
    "transactions": """
        !**** MULTI
        !** WATCH @a ?( @a )
        ! UNWATCH
        ! EXEC
        ! DISCARD
        ! EXEC x
        ! MULTI x
        ! WATCH
        """,
    "replies": """
        ! CLIENT REPLY ( SKIP | ON | nonsense | OFF )
        """,
}
SHARES = {"strings": 14, "bits": 4, "hyperloglog": 2, "lists": 10, "hashes": 10, "sets": 9, "zsets": 12, "streams": 9, "geo": 4,
          "keys": 12, "keyspace": 2, "flush": 0.1, "scripts": 5, "server": 2, "connection": 1.5, "unknown": 1, "blocking": 0.8,
          "databases": 3, "pubsub": 2, "transactions": 2, "replies": 0.3}
NOT_IN_CLUSTER = {"databases", "flush", "pubsub"}  # a node counts its own subscribers
NOT_IN_TRANSACTION = {"pubsub", "replies", "connection", "unknown"}
