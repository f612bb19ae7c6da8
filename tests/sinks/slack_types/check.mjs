// Checks the messages of sinks/slack.cc against Slack's own published types.
//
//   node check.mjs SINKS_TEST DIRECTORY
//
// SINKS_TEST writes its range of messages into DIRECTORY; they become TypeScript literals, and tsc says whether they are
// what Slack takes. Messages that are wrong on purpose stand beside them under @ts-expect-error: should the types ever
// let one through, tsc fails too. Lengths are no part of the types: limits() counts them, as JavaScript counts. Each
// finding names its message. Exit 1, too, when the packages are not installed (tests/install test).
import {spawnSync} from 'node:child_process';
import {existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, 'node_modules');
const [program, directory] = process.argv.slice(2);
if (!program || !directory) {
  console.error('usage: check.mjs SINKS_TEST DIRECTORY');
  process.exit(64);
}
const wanted = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8')).dependencies;
for (const [name, version] of Object.entries(wanted)) {
  const file = join(modules, name, 'package.json');
  const found = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).version : 'missing';
  if (found === version) continue;
  console.error(`${name} should be ${version} and is ${found}: run tests/install test`);
  process.exit(1);
}

mkdirSync(directory, {recursive: true});
const dump = join(directory, 'messages.json');
rmSync(dump, {force: true});
const written = spawnSync(program, ['[slack-dump]'], {env: {...process.env, LOGBELL_SLACK_DUMP: dump}, encoding: 'utf8'});
if (written.status !== 0 || !existsSync(dump)) {
  console.error(`${program} wrote no messages:\n${written.stdout}${written.stderr}`);
  process.exit(1);
}
const messages = JSON.parse(readFileSync(dump, 'utf8'));

const failed = [];
// Each changes one thing that the types know; the first message holds every kind of block. Should it not, that is a
// finding of its own, beside what tsc says of the messages.
const changed = (change) => {
  const copy = structuredClone(messages[0].payload);
  try {
    change(copy, (type) => copy.blocks.find((block) => block.type === type));
  } catch (error) {
    failed.push(`${messages[0].name}: lacks what a wrong message is made from: ${error.message}`);
  }
  return copy;
};
const wrong = [
  ['a header with mark-up', changed((m, block) => { block('header').text.type = 'mrkdwn'; })],
  ['a block that does not exist', changed((m, block) => { block('header').type = 'headline'; })],
  ['a misspelt member', changed((m, block) => { block('section').fieldz = block('section').fields; })],
  ['a field without its type', changed((m, block) => { delete block('section').fields[0].type; })],
  ['a rich text element of another kind', changed((m, block) => { block('rich_text').elements[0].elements[0].type = 'plain_text'; })],
  ['a style that does not exist', changed((m, block) => { block('rich_text').elements[0].elements[0].style = {loud: true}; })],
  ['a context of bare strings', changed((m, block) => { block('context').elements = ['text']; })],
  ['a switch that is a word', changed((m) => { m.unfurl_links = 'no'; })],
  ['metadata without its type', changed((m) => { delete m.metadata.event_type; })],
  ['a member that webhooks do not have', changed((m) => { m.parse_mode = 'none'; })],
];

// What @slack/types and Slack's pages say in words only. Where no number is published (text, rich text) it is ours.
const limits = (message) => {
  const found = [];
  const within = (what, text, most) => {
    if (typeof text !== 'string' || text.length < 1 || text.length > most) found.push(`${what}: ${text?.length ?? 'no'} characters, 1 to ${most} go`);
  };
  const few = (what, list, most) => {
    if (!Array.isArray(list) || list.length < 1 || list.length > most) found.push(`${what}: ${list?.length ?? 'none'}, 1 to ${most} go`);
  };
  const rich = (elements) => {
    few('rich text elements', elements, Infinity);
    for (const element of elements ?? []) {
      if (element.elements) rich(element.elements);
      else within(`rich text ${element.type}`, element.text, 3000);
      if (element.type === 'link') within('link', element.url, 3000);
    }
  };
  within('text', message.text, 4000);
  if (message.blocks) few('blocks', message.blocks, 50);
  for (const block of message.blocks ?? []) {
    if ('block_id' in block) within('block_id', block.block_id, 255);
    if (block.type === 'header') within('header', block.text?.text, 150);
    if (block.type === 'rich_text') rich(block.elements);
    if (block.type === 'section') {
      if (block.text || !block.fields) within('section', block.text?.text, 3000);
      if (block.fields) few('fields', block.fields, 10);
      for (const field of block.fields ?? []) within('field', field.text, 2000);
    }
    if (block.type === 'context') {
      few('context elements', block.elements, 10);
      for (const element of block.elements ?? []) within('context element', element.text, 3000);
    }
  }
  return found;
};
const tooMuch = [
  ['no text', changed((m) => { m.text = ''; })],
  ['a long text', changed((m) => { m.text = 'x'.repeat(4001); })],
  ['51 blocks', changed((m, block) => { m.blocks = Array(51).fill(block('context')); })],
  ['a long header', changed((m, block) => { block('header').text.text = '👍'.repeat(75) + 'x'; })],
  ['a section of nothing', changed((m, block) => { delete block('section').fields; })],
  ['11 fields', changed((m, block) => { block('section').fields = Array(11).fill(block('section').fields[0]); })],
  ['a long field', changed((m, block) => { block('section').fields[0].text = 'x'.repeat(2001); })],
  ['an empty context', changed((m, block) => { block('context').elements = []; })],
  ['an empty rich text', changed((m, block) => { block('rich_text').elements[0].elements[0].text = ''; })],
];
for (const {name, payload} of messages) for (const what of limits(payload)) failed.push(`${name}: ${what}`);
for (const [story, payload] of tooMuch) if (limits(payload).length === 0) failed.push(`wrong on purpose and not noticed: ${story}`);

const lines = [
  "import type {KnownBlock} from '@slack/types';",
  "import type {IncomingWebhookSendArguments} from '@slack/webhook';",
  // Slack's own argument type takes (KnownBlock | Block)[], and Block lets any block through.
  "type Message = Omit<IncomingWebhookSendArguments, 'blocks'> & {blocks?: KnownBlock[]};",
];
const nameOf = new Map();  // by line, counted from 1
const literal = (name, payload) => {
  lines.push(`export const m${lines.length}: Message = ${JSON.stringify(payload)};`);
  nameOf.set(lines.length, name);
};
for (const {name, payload} of messages) literal(name, payload);
for (const [story, payload] of wrong) {
  lines.push(`// @ts-expect-error: ${story}`);
  nameOf.set(lines.length, `wrong on purpose and not noticed: ${story}`);
  literal(story, payload);
}
writeFileSync(join(directory, 'messages.ts'), lines.join('\n') + '\n');
writeFileSync(join(directory, 'package.json'), '{"type": "module"}\n');
rmSync(join(directory, 'node_modules'), {force: true, recursive: true});
symlinkSync(modules, join(directory, 'node_modules'));

const tsc = join(modules, 'typescript', 'bin', 'tsc');
const options = '--noEmit --strict --skipLibCheck --pretty false --module nodenext --moduleResolution nodenext --target es2022 --types node';
const checked = spawnSync(process.execPath, [tsc, ...options.split(' '), 'messages.ts'], {cwd: directory, encoding: 'utf8'});
const said = `${checked.stdout ?? ''}${checked.stderr ?? ''}`;
let understood = 0;
for (const line of said.split('\n')) {
  const [, number, what] = /^messages\.ts\((\d+),\d+\): (.*)/.exec(line) ?? [];
  if (!number) continue;
  ++understood;
  failed.push(`${nameOf.get(Number(number)) ?? `line ${number}`}: ${what.slice(0, 300)}`);
}
if (checked.status !== 0 && understood === 0) failed.push(`tsc ended with ${checked.status ?? checked.signal ?? checked.error}:\n${said}`);
if (failed.length > 0) {
  for (const line of failed.slice(0, 40)) console.error(line);
  console.error(`${failed.length} findings in ${messages.length} messages; what tsc read is ${join(directory, 'messages.ts')}`);
  process.exit(1);
}
console.log(`${messages.length} messages are what Slack's types and limits ask for; ${wrong.length + tooMuch.length} wrong ones are refused`);
