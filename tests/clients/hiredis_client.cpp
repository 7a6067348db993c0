// hiredis as an application uses it: https://github.com/redis/hiredis
//     hiredis_client HOST PORT MODE
// With PASSWORD (and USERNAME) in the environment it authenticates.
#include <hiredis/hiredis.h>
#include <sys/socket.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

constexpr int kPatienceS = 20;

using Reply = std::unique_ptr<redisReply, decltype(&freeReplyObject)>;
using Words = std::vector<std::string>;

std::string host;
int port = 0;

std::string key(const std::string& name) { return "{hiredis}:" + name; }

void require(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what);
}

class Client {
 public:
  Client() : context_(redisConnectWithTimeout(host.c_str(), port, {kPatienceS, 0})) {
    require(context_ != nullptr && context_->err == 0, "no connection");
    redisSetTimeout(context_, {kPatienceS, 0});
    authenticate();
  }
  ~Client() { redisFree(context_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void authenticate() {
    const char* password = std::getenv("PASSWORD");
    const char* user = std::getenv("USERNAME");
    if (password != nullptr) is_status(user == nullptr ? Words{"AUTH", password} : Words{"AUTH", user, password}, "OK");
  }
  void append(const Words& words) {
    std::vector<const char*> arguments;
    std::vector<std::size_t> sizes;
    for (const std::string& word : words) {
      arguments.push_back(word.data());
      sizes.push_back(word.size());
    }
    redisAppendCommandArgv(context_, static_cast<int>(words.size()), arguments.data(), sizes.data());
  }
  Reply read() {
    void* reply = nullptr;
    require(redisGetReply(context_, &reply) == REDIS_OK, std::string("broken: ") + context_->errstr);
    return {static_cast<redisReply*>(reply), &freeReplyObject};
  }
  Reply call(const Words& words) {
    append(words);
    return read();
  }
  // Sends without waiting for the reply.
  void send(const Words& words) {
    append(words);
    int done = 0;
    while (done == 0) require(redisBufferWrite(context_, &done) == REDIS_OK, "broken");
  }

  void is_status(const Words& words, std::string_view wanted) {
    const Reply reply = call(words);
    require(reply->type == REDIS_REPLY_STATUS && text(*reply) == wanted, words[0] + ": " + text(*reply));
  }
  void is_text(const Words& words, std::string_view wanted) {
    const Reply reply = call(words);
    require(reply->type == REDIS_REPLY_STRING && text(*reply) == wanted, words[0] + ": " + text(*reply));
  }
  void is_number(const Words& words, long long wanted) {
    const Reply reply = call(words);
    require(reply->type == REDIS_REPLY_INTEGER && reply->integer == wanted, words[0] + ": " + text(*reply));
  }
  void is_error(const Words& words, std::string_view begin) {
    const Reply reply = call(words);
    require(reply->type == REDIS_REPLY_ERROR && text(*reply).rfind(begin, 0) == 0, words[0] + ": " + text(*reply));
  }
  void reconnect() { require(redisReconnect(context_) == REDIS_OK, "no new connection"); }
  [[nodiscard]] int fd() const { return context_->fd; }

  static std::string text(const redisReply& reply) {
    return reply.str == nullptr ? "(type " + std::to_string(reply.type) + ")" : std::string(reply.str, reply.len);
  }

 private:
  redisContext* context_;
};

void hot_keys() {
  Client client;
  client.is_status({"SET", key("hot"), "1"}, "OK");
  for (int i = 0; i < 10; ++i) client.is_text({"GET", key("hot")}, "1");
  client.is_number({"INCR", key("hot")}, 2);
  client.is_text({"GET", key("hot")}, "2");
  require(client.call({"GET", key("nothing")})->type == REDIS_REPLY_NIL, "nil");
  const std::string binary("\0\r\n$-1\r\n\xff", 9);
  client.is_status({"SET", key("binary"), binary}, "OK");
  for (int i = 0; i < 3; ++i) client.is_text({"GET", key("binary")}, binary);
}

void pipeline() {
  Client client;
  constexpr int kTimes = 5000;
  for (int i = 0; i < kTimes; ++i) {
    client.append({"SET", key("p" + std::to_string(i)), std::to_string(i)});
    client.append({"GET", key("p" + std::to_string(i))});
  }
  for (int i = 0; i < kTimes; ++i) {
    require(client.read()->type == REDIS_REPLY_STATUS, "SET");
    require(Client::text(*client.read()) == std::to_string(i), "GET of its own SET");
  }
}

void transaction() {
  Client one;
  Client other;
  one.is_status({"SET", key("t"), "1"}, "OK");
  one.is_status({"WATCH", key("t")}, "OK");
  one.is_status({"MULTI"}, "OK");
  one.is_status({"INCR", key("t")}, "QUEUED");
  Reply reply = one.call({"EXEC"});
  require(reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 && reply->element[0]->integer == 2, "EXEC");
  one.is_status({"WATCH", key("t")}, "OK");
  other.is_status({"SET", key("t"), "7"}, "OK");
  one.is_status({"MULTI"}, "OK");
  one.is_status({"INCR", key("t")}, "QUEUED");
  require(one.call({"EXEC"})->type == REDIS_REPLY_NIL, "the watch fails");
  one.is_text({"GET", key("t")}, "7");
}

void messages() {
  Client subscriber;
  Client publisher;
  require(subscriber.call({"SUBSCRIBE", key("news")})->elements == 3, "SUBSCRIBE");
  require(subscriber.call({"PSUBSCRIBE", "?hiredis?:n*"})->elements == 3, "PSUBSCRIBE");
  require(publisher.call({"PUBLISH", key("news"), "hello"})->type == REDIS_REPLY_INTEGER, "PUBLISH");
  const Reply message = subscriber.read();
  require(message->elements == 3 && Client::text(*message->element[2]) == "hello", "message");
  const Reply matched = subscriber.read();
  require(matched->elements == 4 && Client::text(*matched->element[3]) == "hello", "pmessage");
  subscriber.is_error({"GET", key("hot")}, "ERR Can't execute 'get'");
  require(subscriber.call({"UNSUBSCRIBE"})->elements == 3, "UNSUBSCRIBE");
  require(subscriber.call({"PUNSUBSCRIBE"})->elements == 3, "PUNSUBSCRIBE");
  subscriber.is_status({"PING"}, "PONG");
}

void blocking_pop() {
  Client consumer;
  Client producer;
  consumer.send({"BLPOP", key("list"), "10"});
  producer.is_number({"RPUSH", key("list"), "job"}, 1);
  const Reply popped = consumer.read();
  require(popped->elements == 2 && Client::text(*popped->element[1]) == "job", "BLPOP");
}

void script() {
  Client client;
  const Reply sha = client.call({"SCRIPT", "LOAD", "return redis.call('INCRBY', KEYS[1], ARGV[1])"});
  require(sha->type == REDIS_REPLY_STRING && sha->len == 40, "SCRIPT LOAD");
  client.call({"DEL", key("sum")});
  client.is_number({"EVALSHA", Client::text(*sha), "1", key("sum"), "2"}, 2);
  client.is_text({"GET", key("sum")}, "2");
  client.is_error({"EVALSHA", std::string(40, '0'), "0"}, "NOSCRIPT");
}

void iterators() {
  Client client;
  for (int i = 0; i < 500; ++i) client.append({"SET", "hiredis:scanned:" + std::to_string(i), "x"});
  for (int i = 0; i < 500; ++i) client.read();
  std::string cursor = "0";
  std::size_t seen = 0;
  do {
    const Reply page = client.call({"SCAN", cursor, "MATCH", "hiredis:scanned:*", "COUNT", "100"});
    require(page->elements == 2, "SCAN");
    cursor = Client::text(*page->element[0]);
    seen += page->element[1]->elements;
  } while (cursor != "0");
  require(seen >= 500, "all keys: " + std::to_string(seen));
}

void stream() {
  Client consumer;
  Client producer;
  producer.call({"DEL", key("stream")});
  producer.is_status({"XGROUP", "CREATE", key("stream"), "workers", "$", "MKSTREAM"}, "OK");
  consumer.send({"XREADGROUP", "GROUP", "workers", "me", "BLOCK", "10000", "STREAMS", key("stream"), ">"});
  producer.is_text({"XADD", key("stream"), "5-1", "what", "work"}, "5-1");
  const Reply read = consumer.read();
  require(read->elements == 1 && Client::text(*read->element[0]->element[1]->element[0]->element[0]) == "5-1", "XREADGROUP");
  consumer.is_number({"XACK", key("stream"), "workers", "5-1"}, 1);
}

void reconnect() {
  Client client;
  client.is_status({"SET", key("k"), "v"}, "OK");
  shutdown(client.fd(), SHUT_RDWR);
  client.append({"GET", key("k")});
  try {
    client.read();
    throw std::logic_error("a connection that was shut answered");
  } catch (const std::runtime_error&) {
    client.reconnect();
  }
  client.authenticate();
  client.is_text({"GET", key("k")}, "v");
}

void wrong_password() {
  Client client;
  client.is_error({"AUTH", "nobody", "nothing"}, "WRONGPASS");
  client.is_text({"ECHO", "still here"}, "still here");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  std::signal(SIGPIPE, SIG_IGN);
  host = argv[1];
  port = std::atoi(argv[2]);
  const std::vector<std::pair<std::string, std::function<void()>>> cases = {
      {"a hot key is read back, changed and read again", hot_keys},
      {"a pipeline keeps its order", pipeline},
      {"a transaction and a watch that fails", transaction},
      {"Pub/Sub with patterns", messages},
      {"a blocking pop is woken", blocking_pop},
      {"a script by its hash", script},
      {"SCAN to its end", iterators},
      {"a stream with a consumer group", stream},
      {"a lost connection is made anew", reconnect},
      {"a wrong password is told", wrong_password},
  };
  int failed = 0;
  for (const auto& [name, run] : cases) {
    try {
      run();
      std::printf("ok %s\n", name.c_str());
    } catch (const std::exception& error) {
      ++failed;
      std::printf("not ok %s: %s\n", name.c_str(), error.what());
    }
  }
  std::printf("1..%zu\n", cases.size());
  return failed == 0 ? 0 : 1;
}
