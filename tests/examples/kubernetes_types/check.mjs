// Checks examples/kubernetes against Kubernetes' own API, and the configuration in it with `logbell check`.
//
//   node check.mjs LOGBELL EXAMPLES DIRECTORY
//
// Every document of EXAMPLES/*.yaml becomes a TypeScript literal of its kind (kubernetes-types is made from Kubernetes' OpenAPI
// description), and tsc says whether the API server would know each field. Documents that are wrong on purpose stand beside
// them under @ts-expect-error. What the types do not know (names that must meet, quantities, words) rules() knows, and is
// held to as many wrong ones. The files of each ConfigMap are written to DIRECTORY and must pass `logbell check --strict`, and the
// tests of rules beside them, EXAMPLES/*.test.yaml, `logbell test`.
// Exit 1, too, when the packages are not installed (tests/install test).
import {spawnSync} from 'node:child_process';
import {existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, 'node_modules');
const [logbell, examples, directory] = process.argv.slice(2);
if (!logbell || !examples || !directory) {
  console.error('usage: check.mjs LOGBELL EXAMPLES DIRECTORY');
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
const {parseAllDocuments} = await import('yaml');
rmSync(directory, {force: true, recursive: true});
mkdirSync(directory, {recursive: true});

const failed = [];
const documents = [];  // {name, value}
for (const file of readdirSync(examples).filter((name) => name.endsWith('.yaml') && !name.endsWith('.test.yaml')).sort()) {
  // As the API server's YAML: the core schema, no key twice.
  for (const document of parseAllDocuments(readFileSync(join(examples, file), 'utf8'), {uniqueKeys: true})) {
    for (const fault of [...document.errors, ...document.warnings]) failed.push(`${file}: ${fault.message}`);
    const value = document.toJS();
    if (value) documents.push({name: `${file}: ${value.kind} ${value.metadata?.name}`, value});
  }
}
const types = {'apps/v1 Deployment': 'apps/v1', 'v1 ConfigMap': 'core/v1', 'v1 Secret': 'core/v1'};
const kindOf = (value) => `${value.apiVersion} ${value.kind}`;
for (const {name, value} of documents) if (!types[kindOf(value)]) failed.push(`${name}: ${kindOf(value)} is not known here`);

// What no type says.
const quantity = /^\d+(\.\d+)?(m|k|M|G|Ki|Mi|Gi)?$/;
const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const rules = (value, all) => {
  const found = [];
  const named = (kind, name) => all.some((other) => other.kind === kind && other.metadata.name === name);
  if (!label.test(value.metadata?.name ?? '')) found.push(`the name ${value.metadata?.name}`);
  if (value.kind !== 'Deployment') return found;
  const pod = value.spec.template.spec;
  const labels = value.spec.template.metadata.labels;
  for (const [key, wants] of Object.entries(value.spec.selector.matchLabels)) if (labels[key] !== wants) found.push(`its selector wants ${key}: ${wants}`);
  if (pod.securityContext?.runAsNonRoot !== true) found.push('it may run as root');
  const grace = pod.terminationGracePeriodSeconds;
  const containers = [...(pod.initContainers ?? []), ...pod.containers];
  const sidecars = containers.filter((container) => container.name === 'logbell');
  if (sidecars.length !== 1) found.push(`${sidecars.length} containers are logbell`);
  for (const container of containers) {
    const say = (what) => found.push(`${container.name}: ${what}`);
    if ((pod.initContainers ?? []).includes(container) && container.restartPolicy !== 'Always') say('is waited for, for ever');
    const security = container.securityContext ?? {};
    if (security.allowPrivilegeEscalation !== false || security.readOnlyRootFilesystem !== true || security.capabilities?.drop?.[0] !== 'ALL') say('its security context is not closed');
    for (const mount of container.volumeMounts ?? []) {
      if (!pod.volumes.some((volume) => volume.name === mount.name)) say(`there is no volume ${mount.name}`);
      if (mount.subPath !== undefined) say('a subPath never changes');
    }
    const ports = (container.ports ?? []).map((port) => port.name);
    for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
      const port = container[probe]?.httpGet?.port;
      if (port !== undefined && typeof port === 'string' && !ports.includes(port)) say(`its ${probe} asks at no port of it`);
      if (container.name === 'logbell' && port === undefined) say(`no ${probe}`);
    }
    for (const amount of Object.values({...container.resources?.requests, ...container.resources?.limits})) if (!quantity.test(amount)) say(`${amount} is no quantity`);
  }
  for (const {args, lifecycle} of sidecars) {
    if (!args?.includes('--on-refusal=stay')) found.push('logbell exits when it refuses');
    const own = Number(/^--grace=(\d+)s$/.exec((args ?? []).find((arg) => arg.startsWith('--grace')) ?? '')?.[1] ?? 25);
    if (own + (lifecycle?.preStop?.sleep?.seconds ?? 0) >= grace) found.push('it is killed before its own grace is over');
  }
  for (const volume of pod.volumes) {
    if (volume.configMap && !named('ConfigMap', volume.configMap.name)) found.push(`there is no ConfigMap ${volume.configMap.name}`);
    if (volume.secret && !named('Secret', volume.secret.secretName)) found.push(`there is no Secret ${volume.secret.secretName}`);
    if (volume.secret && volume.secret.defaultMode !== 0o440) found.push(`a Secret's mode is ${volume.secret.defaultMode?.toString(8)}`);
  }
  return found;
};
const everything = documents.map(({value}) => value);
for (const {name, value} of documents) for (const what of rules(value, everything)) failed.push(`${name}: ${what}`);

// Each changes one thing of the native sidecar's Deployment. Should there be nothing to change, that is a finding of its own.
const first = documents.find(({value}) => value.kind === 'Deployment' && value.spec.template.spec.initContainers);
const changed = (change) => {
  const copy = structuredClone(first?.value ?? {});
  try {
    change(copy.spec.template.spec, copy.spec.template.spec.initContainers[0], copy);
  } catch (error) {
    failed.push(`${first?.name}: lacks what a wrong document is made from: ${error.message}`);
  }
  return copy;
};
const wrongTypes = [
  ['a misspelt field', changed((pod) => { pod.volumes[0].emptydir = {}; })],
  ['a field of another place', changed((pod) => { pod.readOnlyRootFilesystem = true; })],
  ['a probe without its path as text', changed((pod, bell) => { bell.livenessProbe.httpGet.path = 1; })],
  ['a port that is missing', changed((pod, bell) => { delete bell.readinessProbe.httpGet.port; })],
  ['a mode that is a word', changed((pod) => { pod.volumes[3].secret.defaultMode = '0440'; })],
  ['an argument that is a number', changed((pod, bell) => { bell.args.push(20); })],
  ['no containers', changed((pod) => { delete pod.containers; })],
  ['an annotation that is a number', changed((pod, bell, all) => { all.spec.template.metadata.annotations['prometheus.io/port'] = 9733; })],
  ['a replica that is a word', changed((pod, bell, all) => { all.spec.replicas = 'two'; })],
];
const wrongWords = [
  ['it exits when it refuses', changed((pod, bell) => { bell.args = bell.args.filter((arg) => !arg.startsWith('--on-refusal')); })],
  ['an init container that must end', changed((pod, bell) => { delete bell.restartPolicy; })],
  ['a volume that is not there', changed((pod) => { pod.volumes.shift(); })],
  ['a ConfigMap that is not there', changed((pod) => { pod.volumes[2].configMap.name = 'logbell'; })],
  ['a Secret that is not there', changed((pod) => { pod.volumes[3].secret.secretName = 'logbell'; })],
  ['a mode in decimal', changed((pod) => { pod.volumes[3].secret.defaultMode = 440; })],
  ['a port that is not its own', changed((pod, bell) => { bell.startupProbe.httpGet.port = 'http'; })],
  ['memory that is no quantity', changed((pod, bell) => { bell.resources.limits.memory = '128 MB'; })],
  ['a root that can be written', changed((pod, bell) => { bell.securityContext.readOnlyRootFilesystem = false; })],
  ['a selector that misses', changed((pod, bell, all) => { all.spec.selector.matchLabels.app = 'api'; })],
  ['a grace that is too short', changed((pod) => { pod.terminationGracePeriodSeconds = 20; })],
  ['a file that never changes', changed((pod, bell) => { bell.volumeMounts[1].subPath = 'logbell.yaml'; })],
];
for (const [story, value] of wrongWords) if (rules(value, everything).length === 0) failed.push(`wrong on purpose and not noticed: ${story}`);

const lines = [];
for (const [kind, from] of Object.entries(types)) lines.push(`import type {${kind.split(' ')[1]}} from 'kubernetes-types/${from}';`);
const nameOf = new Map();  // by line, counted from 1
const literal = (name, value) => {
  lines.push(`export const m${lines.length}: ${value.kind} = ${JSON.stringify(value)};`);
  nameOf.set(lines.length, name);
};
for (const {name, value} of documents) if (types[kindOf(value)]) literal(name, value);
for (const [story, value] of wrongTypes) {
  lines.push(`// @ts-expect-error: ${story}`);
  nameOf.set(lines.length, `wrong on purpose and not noticed: ${story}`);
  literal(story, {kind: 'Deployment', ...value});
}
writeFileSync(join(directory, 'documents.ts'), lines.join('\n') + '\n');
writeFileSync(join(directory, 'package.json'), '{"type": "module"}\n');
symlinkSync(modules, join(directory, 'node_modules'));
const tsc = join(modules, 'typescript', 'bin', 'tsc');
const options = '--noEmit --strict --skipLibCheck --pretty false --module esnext --moduleResolution bundler --target es2022';
const checked = spawnSync(process.execPath, [tsc, ...options.split(' '), 'documents.ts'], {cwd: directory, encoding: 'utf8'});
const said = `${checked.stdout ?? ''}${checked.stderr ?? ''}`;
let understood = 0;
for (const line of said.split('\n')) {
  const [, number, what] = /^documents\.ts\((\d+),\d+\): (.*)/.exec(line) ?? [];
  if (!number) continue;
  ++understood;
  failed.push(`${nameOf.get(Number(number)) ?? `line ${number}`}: ${what.slice(0, 300)}`);
}
if (checked.status !== 0 && understood === 0) failed.push(`tsc ended with ${checked.status ?? checked.signal ?? checked.error}:\n${said}`);

// The configurations.
let configurations = 0;
const tests = readdirSync(examples).filter((name) => name.endsWith('.test.yaml'));
if (tests.length === 0) failed.push('its rules have no tests');
for (const {name, value} of documents.filter(({value}) => value.kind === 'ConfigMap')) {
  const mounted = join(directory, value.metadata.name);
  mkdirSync(mounted);
  for (const [key, text] of Object.entries(value.data)) writeFileSync(join(mounted, key), text);
  const done = spawnSync(logbell, ['check', '--strict', '--assume-secrets', join(mounted, 'logbell.yaml')], {encoding: 'utf8'});
  if (done.status !== 0) failed.push(`${name}: logbell check ended with ${done.status}:\n${done.stdout}${done.stderr}`);
  for (const test of tests) {
    writeFileSync(join(mounted, test), readFileSync(join(examples, test)));
    const tested = spawnSync(logbell, ['test', join(mounted, test)], {encoding: 'utf8'});
    if (tested.status !== 0) failed.push(`${name}: logbell test ended with ${tested.status}:\n${tested.stdout}${tested.stderr}`);
  }
  ++configurations;
}
if (configurations === 0 || !first) failed.push('there is no ConfigMap or no native sidecar');

if (failed.length > 0) {
  for (const line of failed.slice(0, 40)) console.error(line);
  console.error(`${failed.length} findings in ${documents.length} documents; what tsc read is ${join(directory, 'documents.ts')}`);
  process.exit(1);
}
console.log(`${documents.length} documents are what Kubernetes knows, ${configurations} configuration is accepted; ${wrongTypes.length + wrongWords.length} wrong ones are refused`);
