#!/usr/bin/env python3
"""The style check finds what is planted, and nothing in a tree that keeps the rules."""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import style_check  # noqa: E402

LAYERS = """# Architecture
```layers
protocol         ->
tiers/l1         ->
tiers/io         ->
tiers/coherence  -> protocol tiers/io/clock.hpp
tiers            -> protocol tiers/*
config           -> tiers tiers/*
daemon           -> protocol tiers tiers/* config
tests            -> *
loadtest         -> *
```
"""

HEADER = "// What it is.\n#pragma once\n\n{includes}\nnamespace {namespace} {{\n{body}\n}}\n"


def namespace_of(path):
    return "nearcached::" + os.path.dirname(path).replace("/", "::")


def header(path, includes="", body="", namespace=None):
    return HEADER.format(includes=includes, body=body, namespace=namespace or namespace_of(path))


def source(path, includes="", body=""):
    return f"{includes}\nnamespace {namespace_of(path)} {{\n{body}\n}}\n"


def function_of(lines, head="void f(int a)"):
    return head + " {\n" + "  g();\n" * (lines - 2) + "}\n"


class StyleCheckTest(unittest.TestCase):
    def findings(self, files):
        """Findings in a tree of these files, beside a layer table."""
        with tempfile.TemporaryDirectory() as root:
            for path, text in {"docs/architecture.md": LAYERS, **files}.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as handle:
                    handle.write(text)
            return style_check.findings(root)

    def assert_clean(self, files):
        self.assertEqual(self.findings(files), [])

    def assert_found(self, files, *parts):
        """Exactly one finding, and it holds all the parts."""
        found = self.findings(files)
        self.assertEqual(len(found), 1, found)
        for part in parts:
            self.assertIn(part, found[0])

    SEAMS = """// The rules.
#pragma once
namespace nearcached::tiers::coherence {{
enum class Rule {{
  kKept,  // why
  kCount,
}};
#ifdef NEARCACHED_SEAMS
inline std::uint64_t disabled_rules = 0;
#else
inline constexpr std::uint64_t disabled_rules = {value};
#endif
}}
"""

    def test_a_rule_disabled_in_the_product_is_found(self):
        use = {"tiers/coherence/use.hpp": header("tiers/coherence/use.hpp", body="if (enforced(Rule::kKept)) f();")}
        table = {"docs/consistency.md": "| kKept | nothing is | `writes` 3 |\n"}
        self.assert_clean({"tiers/coherence/rules.hpp": self.SEAMS.format(value="0"), **use, **table})
        self.assert_found({"tiers/coherence/rules.hpp": self.SEAMS.format(value="1"), **use, **table}, "rules.hpp",
                          "must say")

    def test_a_rule_that_nothing_misses_is_found(self):
        tree = {"tiers/coherence/rules.hpp": self.SEAMS.format(value="0"),
                "tiers/coherence/use.hpp": header("tiers/coherence/use.hpp", body="if (enforced(Rule::kKept)) f();"),
                "tests/unit/use_test.cpp": '#include <catch2/catch.hpp>\nTEST_CASE("it is kept", "[use]") {}\n'}
        row = "| kKept | nothing is | {} |\n"
        self.assert_found(tree, "consistency.md", "lacks kKept")
        self.assert_found({**tree, "docs/consistency.md": row.format(" ")}, "consistency.md:1", "nothing misses kKept")
        self.assert_found({**tree, "docs/consistency.md": row.format("a second net")}, "nothing misses kKept")
        self.assert_found({**tree, "docs/consistency.md": row.format('"it is lost"')}, 'no test is called "it is lost"')
        self.assert_found({**tree, "docs/consistency.md": row.format("`past` 7") + row.format("`past` 7").replace(
            "kKept", "kGone")}, "consistency.md:2", "kGone is no rule")
        self.assert_clean({**tree, "docs/consistency.md": row.format('"it is kept"')})

    def test_a_rule_that_no_code_asks_for_is_found(self):
        self.assert_found({"tiers/coherence/rules.hpp": self.SEAMS.format(value="0"),
                           "docs/consistency.md": "| kKept | nothing is | `writes` 3 |\n"}, "kKept")

    def test_seams_in_the_build_of_the_product_are_found(self):
        self.assert_found({"tiers/coherence/use.hpp": header("tiers/coherence/use.hpp", body="enforced(Rule::kKept);"),
                           "docs/consistency.md": "| kKept | nothing is | `writes` 3 |\n",
                           "tiers/coherence/rules.hpp": self.SEAMS.format(value="0"),
                           "tiers/CMakeLists.txt": "add_definitions(-DNEARCACHED_SEAMS)"}, "tiers/CMakeLists.txt")

    def test_a_tree_that_keeps_the_rules_has_no_findings(self):
        self.assert_clean({
            "protocol/writer.hpp": header("protocol/writer.hpp", "#include <string>"),
            "tiers/l1/store.hpp": header("tiers/l1/store.hpp"),
            "tiers/l1/store.cpp": source("tiers/l1/store.cpp", '#include "tiers/l1/store.hpp"\n#include <xxhash.h>'),
            "tests/unit/tiers/l1/store_test.cpp": '#include <catch2/catch.hpp>\n#include "tiers/l1/store.hpp"\n',
            "tiers/read_path.hpp": header("tiers/read_path.hpp", '#include "tiers/l1/store.hpp"'),
            "daemon/main.cpp": '#include "tiers/read_path.hpp"\nint main() { return 0; }\n',
        })

    # layers

    def test_an_include_upward_is_found(self):
        self.assert_found({
            "daemon/session.hpp": header("daemon/session.hpp"),
            "protocol/writer.hpp": header("protocol/writer.hpp", '#include "daemon/session.hpp"'),
        }, "protocol/writer.hpp:4:", "protocol may not include daemon")

    def test_an_include_sideways_is_found(self):
        self.assert_found({"tiers/l1/store.hpp": header("tiers/l1/store.hpp", '#include "tiers/io/buffer.hpp"')},
                          "tiers/l1 may not include tiers/io")

    def test_a_tier_does_not_include_the_files_that_know_several_tiers(self):
        self.assert_found({"tiers/io/buffer.hpp": header("tiers/io/buffer.hpp", '#include "tiers/read_path.hpp"')},
                          "tiers/io may not include tiers ")

    def test_an_edge_to_one_file_does_not_open_its_folder(self):
        path = "tiers/coherence/flights.hpp"
        self.assert_clean({path: header(path, '#include "tiers/io/clock.hpp"')})
        self.assert_found({path: header(path, '#include "tiers/io/buffer.hpp"')}, "tiers/coherence may not include tiers/io")

    def test_a_subfolder_of_tiers_that_is_not_drawn_is_found(self):
        self.assert_found({"tiers/extra/thing.hpp": header("tiers/extra/thing.hpp")}, "is in no layer")

    def test_a_project_include_that_is_not_a_path_from_the_root_is_found(self):
        self.assert_found({"protocol/writer.hpp": header("protocol/writer.hpp", '#include "glob.hpp"')}, "not a path from the root")

    def test_a_missing_layer_table_is_found(self):
        self.assert_found({"docs/architecture.md": "# Architecture\n"}, "table is missing")

    # quarantine and sans-I/O

    def test_a_library_outside_its_files_is_found(self):
        for path, include in (("config/settings.hpp", "yaml-cpp/yaml.h"), ("daemon/session.hpp", "spdlog/spdlog.h"),
                              ("daemon/session.hpp", "prometheus/registry.h"), ("daemon/session.hpp", "boost/beast/http.hpp"),
                              ("tiers/read_path.hpp", "hiredis/hiredis.h"), ("protocol/glob.hpp", "xxhash.h"),
                              ("tiers/io/stream.hpp", "boost/asio.hpp"), ("daemon/session.hpp", "catch2/catch.hpp")):
            with self.subTest(include=include):
                self.assert_found({path: header(path, f"#include <{include}>")}, path, "may be included only in")

    def test_a_library_in_its_files_is_fine(self):
        for path, include in (("config/loader.hpp", "yaml-cpp/yaml.h"), ("daemon/log.hpp", "spdlog/spdlog.h"),
                              ("daemon/admin_server.hpp", "boost/beast/http.hpp"), ("daemon/app.hpp", "boost/asio.hpp")):
            with self.subTest(include=include):
                self.assert_clean({path: header(path, f"#include <{include}>")})

    def test_a_library_nobody_listed_is_found(self):
        self.assert_found({"daemon/app.hpp": header("daemon/app.hpp", "#include <folly/String.h>")}, "no library of the quarantine")

    def test_a_socket_in_the_protocol_is_found(self):
        self.assert_found({"protocol/writer.hpp": header("protocol/writer.hpp", "#include <sys/socket.h>")}, "does no I/O")

    def test_a_clock_read_in_a_state_machine_is_found_but_not_in_a_comment(self):
        path = "tiers/coherence/flights.hpp"
        self.assert_found({path: header(path, body="inline auto t() { return std::chrono::steady_clock::now(); }")}, "no clock")
        self.assert_clean({path: header(path, body="// never steady_clock::now() here\n")})

    # sizes

    def test_a_file_over_its_limit_is_found_and_one_at_the_limit_is_not(self):
        long_text = header("protocol/writer.hpp")
        filled = long_text + "//\n" * (style_check.LINES_MAX - long_text.count("\n"))
        self.assert_clean({"protocol/writer.hpp": filled})
        self.assert_found({"protocol/writer.hpp": filled + "//\n"}, "601 lines")

    def test_tests_may_be_longer_and_generated_includes_have_no_limit(self):
        self.assert_clean({"tests/unit/protocol/a_test.cpp": "//\n" * style_check.TEST_LINES_MAX,
                           "protocol/commands.inc": "//\n" * 5000})
        self.assert_found({"tests/unit/protocol/a_test.cpp": "//\n" * (style_check.TEST_LINES_MAX + 1)}, "901 lines")

    def test_a_long_function_is_found_at_its_head_and_one_at_the_limit_is_not(self):
        limit = style_check.FUNCTION_LINES_MAX
        self.assert_clean({"daemon/app.cpp": source("daemon/app.cpp", body=function_of(limit))})
        self.assert_found({"daemon/app.cpp": source("daemon/app.cpp", body=function_of(limit + 1))},
                          "daemon/app.cpp:3:", "a function of 71 lines")

    def test_long_functions_are_found_whatever_stands_before_their_brace(self):
        for head in ("App::App(int a) : a_(a), b_{a}", "bool f() const noexcept", "auto f() -> std::vector<int>",
                     "template <class T>\nvoid f(T t)", 'TEST_CASE("a { brace in its name")', "bool operator==(const A& other) const",
                     "void f(const std::function<bool()>& g = {})", "void f(int a = 1)"):
            with self.subTest(head=head):
                found = self.findings({"tests/unit/daemon/app_test.cpp": function_of(80, head)})
                self.assertEqual(len(found), 1, found)
                self.assertIn("a function of", found[0])

    def test_long_types_tables_and_namespaces_are_no_functions(self):
        body = "".join(head + " {\n" + "  // x\n" * 80 + "};\n" for head in (
            "class A final : public B<int (*)(int)>", "enum class E : int", "struct S", "constexpr int kTable[] =",
            "const std::array<int, 3> kMore ="))
        self.assert_clean({"daemon/app.cpp": source("daemon/app.cpp", body=body)})

    def test_braces_in_strings_characters_comments_and_digit_separators_do_not_count(self):
        body = ("void f() {\n  a('{'); b(\"{\"); c(R\"x({ \" {)x\");  // {\n  /* { */ d(1'000'000);\n}\n"
                + "void g() {\n  a();\n}\n" * 40)
        self.assert_clean({"daemon/app.cpp": source("daemon/app.cpp", body=body)})

    # names, heads, tests

    def test_a_file_name_in_camel_case_is_found(self):
        self.assert_found({"daemon/adminServer.hpp": header("daemon/adminServer.hpp")}, "not snake_case")

    def test_a_namespace_that_is_not_the_folders_is_found(self):
        path = "tiers/l1/store.hpp"
        found = self.findings({path: header(path, namespace="nearcached::l1")})
        self.assertEqual(len(found), 2, found)  # the wrong one is there, the right one is not
        self.assertIn("the folder says nearcached::tiers::l1", found[0])

    def test_a_forward_declaration_and_an_inner_namespace_are_fine(self):
        path = "tiers/read_path.hpp"
        self.assert_clean({path: header(path, "namespace nearcached::tiers::l1 { class Store; }", "int a;")
                           + "namespace nearcached::tiers::detail {\n}\n"})

    def test_a_header_without_a_comment_at_its_head_is_found(self):
        path = "daemon/app.hpp"
        self.assert_found({path: header(path).replace("// What it is.\n", "\n")}, "first line of a header")

    def test_a_header_without_pragma_once_is_found(self):
        path = "daemon/app.hpp"
        self.assert_found({path: header(path).replace("#pragma once", "")}, "#pragma once is missing")

    def test_a_source_without_its_mirror_test_is_found(self):
        self.assert_found({"config/loader.cpp": source("config/loader.cpp")}, "tests/unit/config/loader_test.cpp is missing")

    def test_an_exemption_needs_a_reason_a_file_and_no_test(self):
        text = source("config/loader.cpp")
        exemptions = "tests/style/exemptions.txt"
        self.assert_clean({"config/loader.cpp": text, exemptions: "# why\nconfig/loader.cpp: sockets only\n"})
        self.assert_found({"config/loader.cpp": text, exemptions: "config/loader.cpp:\n"}, "has no reason")
        self.assert_found({exemptions: "config/loader.cpp: sockets only\n"}, "does not exist")
        self.assert_found({"config/loader.cpp": text, exemptions: "config/loader.cpp: sockets only\n",
                           "tests/unit/config/loader_test.cpp": "//\n"}, "has its test now")

    def test_unfinished_work_is_found_in_code_and_scripts_but_mktemp_patterns_are_not(self):
        mark = "TO" + "DO"
        self.assert_found({"daemon/app.hpp": header("daemon/app.hpp", body=f"// {mark}: later")}, mark)
        self.assert_found({"deploy/up.sh": "# FIX" + "ME\n"}, "deploy/up.sh:1:")
        self.assert_clean({"deploy/up.sh": "mktemp -d /tmp/a." + "X" * 6 + "\n"})

    def test_a_metric_nobody_exports_is_found_in_deploy(self):
        metrics = {"daemon/metrics.cpp": source("daemon/metrics.cpp", body='auto a = "nearcached_l1_hits_total";\nauto b = "nearcached_fill_seconds";')}
        self.assert_clean({**metrics, "deploy/grafana/a.json": "rate(nearcached_l1_hits_total[1m]) nearcached_fill_seconds_bucket"})
        self.assert_found({**metrics, "deploy/grafana/a.json": "nearcached_l1_hit_total"}, "is no metric")


if __name__ == "__main__":
    unittest.main()
