// check.mjs LOGBELL DIRECTORY: what yaml-language-server, which editors use, makes of `logbell schema`: it offers the keys and words that may
// stand at a place, and shows what is wrong at its line. Spoken to as an editor does: LSP over its standard input and output.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import assert from "node:assert/strict";

const [logbell, directory] = process.argv.slice(2).map((path) => resolve(path));
if (!logbell || !directory) {
  console.error("usage: check.mjs LOGBELL DIRECTORY");
  process.exit(64);
}
for (const [name, wanted] of Object.entries(JSON.parse(readFileSync(new URL("package.json", import.meta.url))).dependencies)) {
  const file = new URL(`node_modules/${name}/package.json`, import.meta.url);
  const found = existsSync(file) ? JSON.parse(readFileSync(file)).version : "missing";
  if (found === wanted) continue;
  console.error(`${name} should be ${wanted} and is ${found}: run tests/install test`);
  process.exit(1);
}
mkdirSync(directory, { recursive: true });
for (const of of ["config", "tests", "rules"])
  writeFileSync(join(directory, `${of}.schema.json`), execFileSync(logbell, ["schema", of]));

const server = spawn(process.execPath, [new URL("node_modules/yaml-language-server/bin/yaml-language-server", import.meta.url).pathname, "--stdio"],
  { stdio: ["pipe", "pipe", "inherit"] });
const exited = new Promise((_, reject) => server.on("exit", (code) => reject(new Error(`the language server ended with ${code}`))));
exited.catch(() => {});

// --- LSP: a header with the length, then JSON
let buffer = Buffer.alloc(0);
let last = 0;
const answers = new Map();  // by id, who waits
const diagnosed = new Map();  // by URI, who waits
server.stdout.on("data", (bytes) => {
  buffer = Buffer.concat([buffer, bytes]);
  while (true) {
    const end = buffer.indexOf("\r\n\r\n");
    if (end < 0) return;
    const length = Number(/Content-Length: (\d+)/i.exec(buffer.subarray(0, end))[1]);
    if (buffer.length < end + 4 + length) return;
    take(JSON.parse(buffer.subarray(end + 4, end + 4 + length)));
    buffer = buffer.subarray(end + 4 + length);
  }
});
function send(message) {
  const text = JSON.stringify({ jsonrpc: "2.0", ...message });
  server.stdin.write(`Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
}
function request(method, params) {
  const id = ++last;
  send({ id, method, params });
  return Promise.race([exited, new Promise((answer) => answers.set(id, answer))]);
}
const settings = { yaml: { validate: true, completion: true, hover: true, schemaStore: { enable: false }, schemas: {} } };
function take(message) {
  if (message.id !== undefined && message.method === undefined) {
    answers.get(message.id)(message.result);
  } else if (message.method === "workspace/configuration") {
    send({ id: message.id, result: message.params.items.map((item) => settings[item.section] ?? {}) });
  } else if (message.id !== undefined) {
    send({ id: message.id, result: null });
  } else if (message.method === "textDocument/publishDiagnostics") {
    diagnosed.get(message.params.uri)?.(message.params.diagnostics);
  }
}

// --- what is asked of it
let files = 0;
// Opens a text with the line that names its schema; `|` is where the cursor stands.
async function open(of, text) {
  const whole = `# yaml-language-server: $schema=${of}.schema.json\n${text}`;
  const at = whole.indexOf("|");
  const content = at < 0 ? whole : whole.slice(0, at) + whole.slice(at + 1);
  const before = whole.slice(0, Math.max(at, 0)).split("\n");
  const uri = pathToFileURL(join(directory, `file${++files}.yaml`)).href;
  const diagnostics = Promise.race([exited, new Promise((done) => diagnosed.set(uri, done))]);
  send({ method: "textDocument/didOpen", params: { textDocument: { uri, languageId: "yaml", version: 1, text: content } } });
  return { uri, position: { line: before.length - 1, character: before.at(-1).length }, diagnostics: await diagnostics };
}
async function offered(of, text) {
  const { uri, position } = await open(of, text);
  const list = await request("textDocument/completion", { textDocument: { uri }, position });
  return (list.items ?? list).map((item) => item.label);
}
// "line: message", the line of the text counted from 1.
async function faults(of, text) {
  return (await open(of, text)).diagnostics.map((one) => `${one.range.start.line}: ${one.message}`);
}
function holds(list, ...wanted) {
  for (const one of wanted) assert.ok(list.includes(one), `"${one}" is not in ${JSON.stringify(list)}`);
}

const GOOD = `sources:
  - name: api
    files: [/var/log/api.log]
    format: json
patterns:
  failed: {where: {level: [ERROR, FATAL], status: {match: '^5'}}, examples: ['{"level": "ERROR"}']}
rules:
  - alert: Failed
    expr: count_over_time(failed[5m]) > 3
    for: \${FOR:-1m}
    sinks: [ops]
sinks:
  ops: {slack: {webhook_url: '\${SLACK}'}, messages_per_minute: 5}
`;

const hurry = setTimeout(() => { console.error("the language server does not answer"); process.exit(1); }, 50_000);
await request("initialize", { processId: process.pid, rootUri: pathToFileURL(directory).href, workspaceFolders: null,
  capabilities: { textDocument: { completion: { completionItem: { snippetSupport: false, documentationFormat: ["plaintext"] } }, hover: {} },
                  workspace: { configuration: true } } });
send({ method: "initialized", params: {} });
send({ method: "workspace/didChangeConfiguration", params: { settings } });

// What is right is left alone.
assert.deepEqual(await faults("config", GOOD), []);
assert.deepEqual(await faults("tests", "config: a.yaml\ntests:\n  - input: [{lines: [a, {5x: b}]}]\n    exp_metrics: [{eval_time: 5m, name: x, value: 1}]\n"), []);
assert.deepEqual(await faults("rules", "groups:\n  - name: a\n    rules: [{alert: X, match: y}]\n"), []);

// What is wrong is shown at its line.
for (const [says, of, text, line, message] of [
  ["an unknown key at the top", "config", GOOD + "recievers: []\n", 14, /recievers is not allowed/],
  ["an unknown key of a rule", "config", GOOD.replace("    for:", "    fro:"), 10, /fro is not allowed/],
  ["an unknown key of a sink's type", "config", GOOD.replace("webhook_url:", "webhook_ulr:"), 13, /webhook_ulr is not allowed/],
  ["a bad word", "config", GOOD.replace("format: json", "format: jsno"), 4, /text.*json.*logfmt/s],
  ["no duration", "config", GOOD.replace("${FOR:-1m}", "5 minutes"), 10, /./],
  ["a number beyond its bounds", "config", GOOD.replace("messages_per_minute: 5", "messages_per_minute: 601"), 13, /600/],
  ["a missing name", "config", GOOD.replace("- name: api\n    files:", "- files:"), 2, /"name"/],
  ["a list where a map belongs", "config", GOOD.replace("patterns:\n  failed:", "patterns:\n  - failed:"), 6, /object/],
  ["an unknown key of a test", "tests", "config: a.yaml\ntests:\n  - inptu: []\n    exp_metrics: []\n", 3, /inptu is not allowed/],
  ["an unknown key of a group", "rules", "groups:\n  - name: a\n    rules: []\n    interval: 1m\n", 4, /interval is not allowed/],
]) {
  const found = await faults(of, text);
  assert.ok(found.some((one) => one.startsWith(`${line}: `) && message.test(one)), `${says}: ${JSON.stringify(found)}`);
}

// The keys and words of a place, each with a sentence.
holds(await offered("config", "|"), "sources", "patterns", "rules", "sinks", "route", "heartbeat");
holds(await offered("config", GOOD + "route:\n  |"), "sinks", "group_by", "routes", "repeat_interval");
holds(await offered("config", "sources:\n  - name: api\n    |"), "files", "format", "multiline", "max_silence");
holds(await offered("config", "sources:\n  - name: api\n    format: |"), "text", "json", "logfmt", "cri");
holds(await offered("config", "patterns:\n  failed:\n    |"), "match", "where", "labels", "examples");
holds(await offered("config", "rules:\n  - alert: X\n    |"), "expr", "for", "keep_firing_for", "annotations");
holds(await offered("config", "sinks:\n  ops:\n    |"), "slack", "pagerduty", "email", "fallback");
holds(await offered("config", "sinks:\n  ops:\n    slack:\n      |"), "webhook_url", "webhook_url_file", "proxy");
holds(await offered("tests", "config: a\ntests:\n  - name: a\n    |"), "input", "alert_rule_test", "watched_for");
const inRoute = await offered("config", GOOD + "route:\n  |");
assert.ok(!inRoute.includes("alert") && !inRoute.includes("sources"), "what belongs elsewhere is not offered");
const { uri } = await open("config", GOOD);
const hover = await request("textDocument/hover", { textDocument: { uri }, position: { line: 10, character: 6 } });
assert.match(JSON.stringify(hover.contents), /must hold so long before it fires/);

clearTimeout(hurry);
console.log("yaml-language-server: what is right is left alone, what is wrong is at its line, keys and words are offered");
server.kill();
process.exit(0);
