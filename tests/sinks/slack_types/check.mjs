// Checks the messages of sinks/slack.cc against Slack's own published types.
//
//   node check.mjs SINKS_TEST DIRECTORY
//
// SINKS_TEST writes its range of messages into DIRECTORY; they become TypeScript literals, and tsc says whether they are
// what Slack takes. Messages that are wrong on purpose stand beside them under @ts-expect-error: should the types ever
// let one through, tsc fails too. Exit 1, too, when the packages are not installed (tests/install test).
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
if (!existsSync(join(modules, '@slack', 'types'))) {
  console.error(`Slack's types are not installed: run tests/install test`);
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

// Each changes one thing that the types know; the first message holds every kind of block.
const changed = (change) => {
  const copy = structuredClone(messages[0].payload);
  change(copy, (type) => copy.blocks.find((block) => block.type === type));
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

const lines = [
  "import type {KnownBlock} from '@slack/types';",
  "import type {IncomingWebhookSendArguments} from '@slack/webhook';",
  // Slack's own argument type takes (KnownBlock | Block)[], and Block lets any block through.
  "type Message = Omit<IncomingWebhookSendArguments, 'blocks'> & {blocks?: KnownBlock[]};",
];
for (const {name, payload} of messages) lines.push(`// ${name}`, `export const m${lines.length}: Message = ${JSON.stringify(payload)};`);
for (const [story, payload] of wrong) lines.push(`// @ts-expect-error: ${story}`, `export const m${lines.length}: Message = ${JSON.stringify(payload)};`);
writeFileSync(join(directory, 'messages.ts'), lines.join('\n') + '\n');
writeFileSync(join(directory, 'package.json'), '{"type": "module"}\n');
rmSync(join(directory, 'node_modules'), {force: true, recursive: true});
symlinkSync(modules, join(directory, 'node_modules'));

const tsc = join(modules, 'typescript', 'bin', 'tsc');
const options = '--noEmit --strict --skipLibCheck --module nodenext --moduleResolution nodenext --target es2022 --types node';
const checked = spawnSync(process.execPath, [tsc, ...options.split(' '), 'messages.ts'], {cwd: directory, encoding: 'utf8'});
process.stdout.write(checked.stdout ?? '');
process.stderr.write(checked.stderr ?? '');
if (checked.status !== 0) {
  console.error(`Slack's types refuse a message, or accept a wrong one (${join(directory, 'messages.ts')})`);
  process.exit(1);
}
console.log(`${messages.length} messages are what Slack's types ask for; ${wrong.length} wrong ones are refused`);
