// Counts the assertions of a TAP report: test-summary.mjs <report> <the runner's exit code> <number of suites>.
// A leaf is a test point that does not close a subtest. A subtest or suite that fails without a failed leaf (a crash,
// a time limit, a missing plan) counts as one failure. It prints the longest suites beside their budgets; its last line is
// `N passed, N failed`. SUITE_FIGURES=<file>: also a line a suite, `name passed failed seconds cpu`.
import { readFileSync, writeFileSync } from 'node:fs';
import { readBudgets } from './budgets.mjs';

const [, , report = '', status = '0', files = '0'] = process.argv;
const count = { passed: 0, failed: 0, skipped: [], failures: [], suites: [] };
const longest = 10;
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
  while (open.at(-1)?.indent > indent) open.pop(); // of a suite that died in the middle of them
  const subtest = open.at(-1)?.indent === indent ? open.pop() : undefined;
  const directive = /(?<!\\)#\s*(SKIP|TODO)\b/i.exec(rest)?.[1]?.toUpperCase();
  if (directive) count.skipped.push(path(rest));
  else if (subtest) end({ ...subtest, name: rest, ok });
  else if (rest.endsWith('{')) open.push({ indent, name: rest.slice(0, -1).trim(), ok, failed: count.failed }); // of several at a time
  else if (ok) count.passed++;
  else fail(path(rest));
  if (indent === 0) endSuite(rest);
}

/** With what was counted since the suite before it ended. */
function endSuite(rest) {
  const [, name = rest, seconds = 0, cpu = 0] = /^(\S.*?) # time=([\d.]+)s cpu=([\d.]+)s/.exec(rest) ?? [];
  const before = count.suites.reduce((sum, suite) => ({ passed: sum.passed + suite.passed, failed: sum.failed + suite.failed }), { passed: 0, failed: 0 });
  const own = { passed: count.passed - before.passed, failed: count.failed - before.failed };
  if (own.passed + own.failed === 0 && !count.skipped.some((skipped) => skipped.startsWith(`${name} `))) fail(`${name} asserts nothing`);
  count.suites.push({ name, ...own, seconds: Number(seconds), cpu: Number(cpu) });
}

for (const line of readFileSync(report, 'utf8').split('\n')) {
  const indent = line.length - line.trimStart().length;
  const text = line.trim();
  if (yaml !== undefined && (indent >= yaml || text === '')) {
    if (text === '...' && indent === yaml) yaml = undefined;
    continue;
  }
  yaml = undefined; // a suite that died in the middle of a block does not hide what the next ones say
  const found = /^(not )?ok\b(?: \d+)?(?: - )?(.*)$/.exec(text);
  if (text === '---') yaml = indent;
  else if (text === '}' && open.at(-1)?.indent === indent) end(open.pop());
  else if (text.startsWith('# Subtest: ')) open.push({ indent, name: text.slice(11), failed: count.failed });
  else if (text.startsWith('Bail out!')) fail(path(text));
  else if (found && indent % 4 === 0) point(indent, !found[1], found[2]);
}

if (count.suites.length < Number(files)) fail(`${files} suites were to run, ${count.suites.length} did`);
if (status !== '0' && count.failed === 0) fail(`the runner ended with ${status}`);
printLongest();
if (process.env.SUITE_FIGURES) {
  const lines = count.suites.map((suite) => [suite.name, suite.passed, suite.failed, suite.seconds, suite.cpu].join('\t'));
  writeFileSync(process.env.SUITE_FIGURES, `${lines.sort().join('\n')}\n`);
}
const all = process.env.TEST_REQUIRE === 'all';
if (count.skipped.length > 0) {
  console.log(`${count.skipped.length} skipped or to do${all ? ', and TEST_REQUIRE=all forbids it' : ''}:`);
  for (const name of count.skipped) console.log(`  ${name}`);
}
for (const name of count.failures) console.log(`failed: ${name}`);
console.log(`${count.passed} passed, ${count.failed} failed`);
if (count.failed > 0 || count.passed === 0 || (all && count.skipped.length > 0)) process.exitCode = 1;

/** A budget is what a suite takes by itself on two cores; beside others it takes longer. */
function printLongest() {
  const budgets = readBudgets();
  const table = count.suites.toSorted((a, b) => b.seconds - a.seconds).slice(0, longest);
  console.log(`the ${table.length} longest of ${count.suites.length} suites: seconds, CPU seconds, budget by itself (docs/contributing.md)`);
  for (const { name, seconds, cpu } of table)
    console.log(`${seconds.toFixed(1).padStart(8)} ${cpu.toFixed(1).padStart(8)} ${String(budgets.get(name)?.seconds ?? 60).padStart(6)}  ${name}`);
  const [, total = '?', machine = '?'] = /^# total=(\d+)s machine=(\d+)s$/m.exec(readFileSync(report, 'utf8')) ?? [];
  const cpu = count.suites.reduce((sum, suite) => sum + suite.cpu, 0);
  console.log(`in all ${total} s; CPU seconds: ${cpu.toFixed(0)} of the suites, ${machine} of the whole machine meanwhile`);
}
