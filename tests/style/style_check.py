#!/usr/bin/env python3
"""The rules of CONTRIBUTING.md that a machine can check. Prints "file:line: finding" and exits 1 if there are any.

    style_check.py [ROOT]

Each rule is a function from the tree to findings, listed in RULES. What a rule allows is data: the layers stand in
docs/architecture.md, the quarantine below, the exemptions from mirror tests in exemptions.txt.
"""
import fnmatch
import os
import re
import sys

LINES_MAX = 600
TEST_LINES_MAX = 900
FUNCTION_LINES_MAX = 70

CODE_FOLDERS = ("protocol", "tiers", "config", "daemon", "loadtest", "tests")
MIRRORED_FOLDERS = ("protocol", "tiers", "config")
NAMESPACED_FOLDERS = ("protocol", "tiers", "config", "daemon")
TEXT_FOLDERS = CODE_FOLDERS + ("cmake", "deploy", ".ci")
CODE_SUFFIXES = (".hpp", ".cpp")
TEXT_SUFFIXES = CODE_SUFFIXES + (".py", ".sh", ".cmake", ".yaml", ".yml", ".json", ".service", "CMakeLists.txt", "Dockerfile")

# Library -> (its include paths, where they may be included). tests/ and loadtest/ are named where they may.
QUARANTINE = {
    "yaml-cpp": (r"yaml-cpp/", ["config/loader*"]),
    "prometheus-cpp": (r"prometheus/", ["daemon/metrics*"]),
    "Boost.Beast": (r"boost/beast", ["daemon/admin*"]),
    "Boost.Intrusive": (r"boost/intrusive", ["tiers/write_behind/queue_state*"]),
    "Boost": (r"boost/(?!beast|intrusive)", ["tiers/upstream/control*", "daemon/*", "tests/*", "loadtest/*"]),
    "spdlog": (r"(spdlog|fmt)/", ["daemon/log*"]),
    "hiredis": (r"hiredis/", ["tiers/upstream/control_link*", "tests/*", "loadtest/*"]),
    "xxHash": (r"xxh", ["tiers/l1/*"]),
    "ISA-L": (r"isa-l", ["tiers/write_behind/checksum*"]),
    "lz4, zstd": (r"(lz4|zstd)", ["tiers/l1/compressor*", "loadtest/*"]),
    "OpenSSL": (r"openssl/", ["tiers/io/tls*", "daemon/access.cpp", "tests/*"]),
    "Catch2": (r"catch2/", ["tests/*"]),
}
SYSTEM_FOLDERS = ("sys", "netinet", "arpa", "net", "linux", "sanitizer")

# Layers whose logic takes events and `now`: they touch neither sockets nor clocks.
SANS_IO = ("protocol/", "tiers/coherence/", "tiers/l1/", "tiers/insight/")
IO_INCLUDE = re.compile(r"(sys/(socket|epoll|un|ioctl)|netinet/|arpa/|net/|netdb\.h|unistd\.h|poll\.h|fstream|boost/asio)")
CLOCK_READ = re.compile(r"\b(clock_gettime|gettimeofday|\w+_clock::now)\b")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
NAMESPACE = re.compile(r"^\s*(?:inline\s+)?namespace\s+(nearcached[\w:]*)\s*\{(.*)$")
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")
METRIC = re.compile(r"\bnearcached_[a-z0-9_]+\b")
METRIC_SUFFIX = re.compile(r"_(bucket|sum|count)$")
NOT_METRICS = ("nearcached_load",)


class File:
    """One text file: its path from the root, its lines and, for code, the same lines without comments and strings."""

    def __init__(self, root, path):
        self.path = path
        with open(os.path.join(root, path), encoding="utf-8") as handle:
            self.text = handle.read()
        self.lines = self.text.splitlines()

    @property
    def is_code(self):
        return self.path.endswith(CODE_SUFFIXES)

    @property
    def folder(self):
        return os.path.dirname(self.path)

    def bare_text(self):
        return blank_literals(self.text)

    def includes(self):
        for number, line in enumerate(self.lines, 1):
            found = INCLUDE.match(line)
            if found:
                yield number, found.group(1), found.group(2)


class Tree:
    """The files that the rules look at."""

    def __init__(self, root):
        self.root = root
        self.files = [File(root, path) for path in sorted(self._walk())]
        self.code = [file for file in self.files if file.is_code]
        self.paths = {file.path for file in self.files}

    def _walk(self):
        for top in TEXT_FOLDERS:
            for folder, subfolders, names in os.walk(os.path.join(self.root, top)):
                subfolders[:] = [name for name in subfolders if name not in ("build", "__pycache__")]
                for name in names:
                    if name.endswith(TEXT_SUFFIXES):
                        yield os.path.relpath(os.path.join(folder, name), self.root)

    def read(self, path):
        """Lines of a file that need not exist."""
        try:
            with open(os.path.join(self.root, path), encoding="utf-8") as handle:
                return handle.read().splitlines()
        except FileNotFoundError:
            return []


LITERAL = re.compile(
    r'R"(?P<mark>[^\s()\\]{0,16})\((?:.|\n)*?\)(?P=mark)"'  # raw strings first: they may hold anything
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'"  # not the digit separator of 1'000
    r"|//[^\n]*"
    r"|/\*(?:.|\n)*?\*/"
)


RULES_HEADER = "tiers/coherence/rules.hpp"
NOTHING_DISABLED = "inline constexpr std::uint64_t disabled_rules = 0;"
RULE_USED = re.compile(r"enforced\((?:\w+::)*Rule::(\w+)\)")
RULE_NAMED = re.compile(r"  (k[A-Z]\w*),")
RULES_TABLE = "docs/consistency.md"
RULE_ROW = re.compile(r"\| (k[A-Z]\w*) \|[^|]*\|(.*)\|$")
RULE_CASE = re.compile(r'"([^"]+)"')
RULE_PROFILE = re.compile(r"`[a-z]+` \d+")  # with the seed that fails


def blank_literals(text):
    """The text with comments, strings and characters blanked; line numbers stay."""
    return LITERAL.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


# ---- layers

def parse_layers(lines):
    """{folder: [patterns of folders or files it may include]} from the ```layers block of docs/architecture.md."""
    layers, inside = {}, False
    for line in lines:
        if line.startswith("```"):
            inside = line.strip() == "```layers"
        elif inside and "->" in line:
            folder, _, allowed = line.partition("->")
            layers[folder.strip()] = allowed.split()
    return layers


def layer_of(path, layers):
    """The longest layer that holds the path, or None. `tiers` holds only the files directly in it."""
    folder = os.path.dirname(path)
    while folder and folder not in layers:
        folder = os.path.dirname(folder)
    if folder == "tiers" and os.path.dirname(path) != "tiers":
        return None
    return folder or None


def check_layers(tree):
    layers = parse_layers(tree.read("docs/architecture.md"))
    if not layers:
        yield "docs/architecture.md", 1, "the ```layers table is missing"
        return
    for file in tree.code:
        layer = layer_of(file.path, layers)
        if layer is None:
            yield file.path, 1, f"{file.folder}/ is in no layer of docs/architecture.md"
            continue
        for number, kind, target in file.includes():
            if kind != '"':
                continue
            other = layer_of(target, layers)
            if layer in ("tests", "loadtest") and f"{file.folder}/{target}" in tree.paths:
                continue  # beside the file itself
            if other is None:
                yield file.path, number, f'"{target}" is not a path from the root into a layer'
            elif other != layer and not any(fnmatch.fnmatch(name, p) for p in layers[layer] for name in (other, target)):
                yield file.path, number, f"{layer} may not include {other} ({target})"


def check_quarantine(tree):
    for file in tree.code:
        for number, _, target in file.includes():
            library = next((name for name, (pattern, _) in QUARANTINE.items() if re.match(pattern, target)), None)
            if library is None:
                top = target.split("/")[0]
                if "/" in target and top not in SYSTEM_FOLDERS + CODE_FOLDERS:
                    yield file.path, number, f"<{target}> belongs to no library of the quarantine table"
            elif not any(fnmatch.fnmatch(file.path, allowed) for allowed in QUARANTINE[library][1]):
                yield file.path, number, f"{library} may be included only in {', '.join(QUARANTINE[library][1])}"


def check_sans_io(tree):
    for file in tree.code:
        if not file.path.startswith(SANS_IO):
            continue
        for number, _, target in file.includes():
            if IO_INCLUDE.match(target):
                yield file.path, number, f"{file.folder}/ does no I/O, but includes <{target}>"
        for number, line in enumerate(file.bare_text().splitlines(), 1):
            if CLOCK_READ.search(line):
                yield file.path, number, f"{file.folder}/ reads no clock: it is given `now`"


# ---- sizes

def check_file_size(tree):
    for file in tree.code:
        limit = TEST_LINES_MAX if file.path.startswith("tests/") else LINES_MAX
        if len(file.lines) > limit:
            yield file.path, limit + 1, f"{len(file.lines)} lines, {limit} at most"


PREPROCESSOR = re.compile(r"^[ \t]*#(?:\\\n|[^\n])*", re.MULTILINE)
CONTAINER = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")


def without_brackets(head):
    """The head without what stands in (), <>, {} or []."""
    before = None
    while before != head:
        before, head = head, re.sub(r"\([^()]*\)|<[^<>]*>|\{[^{}]*\}|\[[^][]*\]", "", head)
    return head


def opens_function(head):
    """Whether the `{` behind this text opens a function's body: not a type's, a namespace's or a table's."""
    bare = without_brackets(re.sub(r"operator\s*(\(\)|\[\]|[-=!<>+*/&|^%~]+)", "operator", head))
    return "(" in head and "=" not in bare and not CONTAINER.search(bare)


def matching_braces(bare):
    """{position of "{": position of its "}"}."""
    pairs, stack = {}, []
    for found in re.finditer(r"[{}]", bare):
        if found.group() == "{":
            stack.append(found.start())
        elif stack:
            pairs[stack.pop()] = found.start()
    return pairs


def function_lengths(bare):
    """(line, lines) of every function body in text without literals. A lambda counts as part of its function."""
    bare = PREPROCESSOR.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), bare)
    pairs = matching_braces(bare)
    head_begin, at = 0, 0
    while found := re.compile(r"[{};]").search(bare, at):
        mark, start = found.group(), found.start()
        at = start + 1
        if mark == "{":
            head, close = bare[head_begin:start], pairs.get(start, len(bare))
            if head.count("(") > head.count(")") or re.match(r"\s*[,{]", bare[close + 1:]):
                at = close + 1  # `g = {}` in a parameter list, `a_{a}` in a constructor's list: still the head
                continue
            if opens_function(head):
                first = bare.count("\n", 0, head_begin + len(head) - len(head.lstrip())) + 1
                yield first, bare.count("\n", 0, close) + 2 - first
                at = close + 1
        head_begin = at


def check_function_size(tree):
    for file in tree.code:
        for number, lines in function_lengths(file.bare_text()):
            if lines > FUNCTION_LINES_MAX:
                yield file.path, number, f"a function of {lines} lines, {FUNCTION_LINES_MAX} at most"


# ---- names, heads, tests

def check_file_names(tree):
    for file in tree.code:
        for part in file.path.rsplit(".", 1)[0].split("/"):
            if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", part):
                yield file.path, 1, f"'{part}' is not snake_case"


def check_namespaces(tree):
    for file in tree.code:
        if not file.path.startswith(tuple(folder + "/" for folder in NAMESPACED_FOLDERS)):
            continue
        expected = "nearcached::" + file.folder.replace("/", "::")
        opened = False
        for number, line in enumerate(file.bare_text().splitlines(), 1):
            found = NAMESPACE.match(line)
            if not found:
                continue
            name, rest = found.groups()
            opened = opened or name == expected or name.startswith(expected + "::")
            is_forward_declaration = re.fullmatch(r"\s*((class|struct|enum class)\s+\w+\s*;\s*)+\}\s*", rest)
            if name != expected and not name.startswith(expected + "::") and not is_forward_declaration:
                yield file.path, number, f"namespace {name}, but the folder says {expected}"
        if not opened and os.path.basename(file.path) != "main.cpp":
            yield file.path, 1, f"nothing in namespace {expected}"


def check_header_heads(tree):
    for file in tree.code:
        if not file.path.endswith(".hpp"):
            continue
        if not file.lines or not re.match(r"//\s*\w", file.lines[0]):
            yield file.path, 1, "the first line of a header is a // comment that says what it is"
        if "#pragma once" not in file.lines:
            yield file.path, 1, "#pragma once is missing"


def read_exemptions(tree):
    """{path: (line, reason)} of tests/style/exemptions.txt: "path: reason"."""
    exemptions = {}
    for number, line in enumerate(tree.read("tests/style/exemptions.txt"), 1):
        if line.strip() and not line.startswith("#"):
            path, _, reason = line.partition(":")
            exemptions[path.strip()] = (number, reason.strip())
    return exemptions


def check_mirror_tests(tree):
    exemptions = read_exemptions(tree)
    for file in tree.code:
        if not file.path.endswith(".cpp") or not file.path.startswith(tuple(f + "/" for f in MIRRORED_FOLDERS)):
            continue
        mirror = "tests/unit/" + file.path[: -len(".cpp")] + "_test.cpp"
        if mirror not in tree.paths and file.path not in exemptions:
            yield file.path, 1, f"{mirror} is missing (or a reason in tests/style/exemptions.txt)"
        if mirror in tree.paths and file.path in exemptions:
            yield "tests/style/exemptions.txt", exemptions[file.path][0], f"{file.path} has its test now"
    for path, (number, reason) in exemptions.items():
        if path not in tree.paths:
            yield "tests/style/exemptions.txt", number, f"{path} does not exist"
        if not reason:
            yield "tests/style/exemptions.txt", number, f"{path} has no reason"


def check_unfinished(tree):
    for file in tree.files:
        for number, line in enumerate(file.lines, 1):
            found = UNFINISHED.search(line)
            if found:
                yield file.path, number, f"{found.group()}: finish it or open an issue"


def check_metric_names(tree):
    """What dashboards, rules and scripts of deploy/ ask for is something that daemon/metrics* exports."""
    exported = set()
    for file in tree.code:
        if fnmatch.fnmatch(file.path, "daemon/metrics*"):
            exported |= set(METRIC.findall(file.text))
    for file in tree.files:
        if not file.path.startswith("deploy/"):
            continue
        for number, line in enumerate(file.lines, 1):
            for name in METRIC.findall(line):
                if name not in NOT_METRICS and not {name, METRIC_SUFFIX.sub("", name)} & exported:
                    yield file.path, number, f"{name} is no metric of daemon/metrics*"


def check_rule_table(tree, rules):
    """docs/consistency.md says of each rule what misses it: a profile of the simulator, or a case that exists."""
    rows = {}
    for number, line in enumerate(tree.read(RULES_TABLE), 1):
        row = RULE_ROW.match(line)
        if row:
            rows[row[1]] = (number, row[2])
    names = {found[1] for found in map(RULE_NAMED.match, rules.lines) if found} - {"kCount"}
    tests = "\n".join(file.text for file in tree.code if file.path.startswith("tests/"))
    for name in sorted(names - rows.keys()):
        yield RULES_TABLE, 1, f"the table of rules lacks {name}"
    for name, (number, missed_by) in rows.items():
        cases = RULE_CASE.findall(missed_by)
        if name not in names:
            yield RULES_TABLE, number, f"{name} is no rule"
        if not cases and not RULE_PROFILE.search(missed_by):
            yield RULES_TABLE, number, f"nothing misses {name}"
        for case in cases:
            if f'"{case}"' not in tests:
                yield RULES_TABLE, number, f'no test is called "{case}"'


def check_rule_seams(tree):
    """In the product every rule of coherence is kept: nothing is disabled, and nothing but the simulator can disable it."""
    rules = next((file for file in tree.code if file.path == RULES_HEADER), None)
    if rules is None:
        return
    if NOTHING_DISABLED not in rules.text.partition("#else")[2]:
        yield RULES_HEADER, 1, f"without NEARCACHED_SEAMS it must say: {NOTHING_DISABLED}"
    enforced = {name for file in tree.code if file.path.startswith(("tiers/", "daemon/")) and file.path != RULES_HEADER
                for name in RULE_USED.findall(file.text)}
    for number, line in enumerate(rules.lines, 1):
        name = RULE_NAMED.match(line)
        if name and name[1] != "kCount" and name[1] not in enforced:
            yield RULES_HEADER, number, f"no code asks enforced(Rule::{name[1]})"
    yield from check_rule_table(tree, rules)
    for file in tree.files:
        build = os.path.basename(file.path) in ("CMakeLists.txt", "CMakePresets.json") or file.path.endswith(".cmake")
        if build and "NEARCACHED_SEAMS" in file.text and not file.path.startswith("tests/sim/"):
            yield file.path, 1, "NEARCACHED_SEAMS is for tests/sim alone"


RULES = (
    check_rule_seams,
    check_layers,
    check_quarantine,
    check_sans_io,
    check_file_size,
    check_function_size,
    check_file_names,
    check_namespaces,
    check_header_heads,
    check_mirror_tests,
    check_unfinished,
    check_metric_names,
)


def findings(root):
    tree = Tree(root)
    return [f"{path}:{line}: {what}" for rule in RULES for path, line, what in rule(tree)]


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    found = findings(root)
    print("\n".join(found) if found else "the tree keeps the rules")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
