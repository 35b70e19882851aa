// Counts the assertions of a TAP report: test-summary.mjs <report> <tap's exit code> <number of files>.
// A leaf is a test point that does not close a subtest. A subtest or file that fails without a failed leaf (a crash,
// a time limit, a missing plan) counts as one failure. The last line printed is `N passed, N failed`.
import { readFileSync } from 'node:fs';

const [, , report = '', status = '0', files = '0'] = process.argv;
const count = { passed: 0, failed: 0, skipped: [], failures: [], files: 0 };
const open = []; // subtests: {indent, name, failed: failures counted before it}
let yaml; // indentation of the diagnostic block that is being skipped

const path = (rest) => [...open.map((o) => o.name), rest].join(' > ');

function fail(what) {
  count.failed++;
  count.failures.push(what);
}

function end({ name, ok, failed }) {
  if (!ok && count.failed === failed) fail(path(name));
}

function point(indent, ok, rest) {
  const subtest = open.at(-1)?.indent === indent ? open.pop() : undefined;
  if (indent === 0) count.files++;
  const directive = /(?<!\\)#\s*(SKIP|TODO)\b/i.exec(rest)?.[1]?.toUpperCase();
  if (directive) count.skipped.push(path(rest));
  else if (subtest) end({ ...subtest, name: rest, ok });
  else if (rest.endsWith('{')) open.push({ indent, name: rest.slice(0, -1).trim(), ok, failed: count.failed }); // of several at a time
  else if (ok) count.passed++;
  else fail(path(rest));
}

for (const line of readFileSync(report, 'utf8').split('\n')) {
  const indent = line.length - line.trimStart().length;
  const text = line.trim();
  if (yaml !== undefined) {
    if (text === '...' && indent === yaml) yaml = undefined;
    continue;
  }
  const found = /^(not )?ok\b(?: \d+)?(?: - )?(.*)$/.exec(text);
  if (text === '---') yaml = indent;
  else if (text === '}' && open.at(-1)?.indent === indent) end(open.pop());
  else if (text.startsWith('# Subtest: ')) open.push({ indent, name: text.slice(11), failed: count.failed });
  else if (text.startsWith('Bail out!')) fail(path(text));
  else if (found && indent % 4 === 0) point(indent, !found[1], found[2]);
}

if (count.files < Number(files)) fail(`${files} files were to run, ${count.files} did`);
if (status !== '0' && count.failed === 0) fail(`tap ended with ${status}`);
const all = process.env.TEST_REQUIRE === 'all';
if (count.skipped.length > 0) {
  console.log(`${count.skipped.length} skipped or to do${all ? ', and TEST_REQUIRE=all forbids it' : ''}:`);
  for (const name of count.skipped) console.log(`  ${name}`);
}
for (const name of count.failures) console.log(`failed: ${name}`);
console.log(`${count.passed} passed, ${count.failed} failed`);
if (count.failed > 0 || count.passed === 0 || (all && count.skipped.length > 0)) process.exitCode = 1;
