// Runs suites side by side: run-suites.mjs <report> <suite>... A suite is a compiled file, or `firmware whole|smoke <board>`.
//
// The longest begins first, so that no processor waits for it at the end. docs/contributing.md has a row for each suite: its
// seconds and how many processors it keeps busy. A suite begins when what it needs is free; a short or waiting one may overtake.
// A suite that measures time (`apart`) runs with nothing beside it, after the others.
//
// The report is TAP: one test point a suite, with its own output as a subtest, its seconds and its CPU seconds.
import { spawn } from 'node:child_process';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { readBudgets, suiteName } from './budgets.mjs';

const [, , report = '', ...files] = process.argv;
const limitSeconds = Number(process.env.LIMIT ?? 1500);
/** Suites wait for disks, servers and each other: half as many again keep the processors busy. */
const capacity = 1.5 * availableParallelism();
const budgets = readBudgets();
const unknown = { seconds: 60, cores: 1, apart: false };

const suites = files
  .map((file) => ({ file, name: suiteName(file), ...(budgets.get(suiteName(file)) ?? unknown) }))
  .sort((a, b) => Number(a.apart) - Number(b.apart) || b.seconds - a.seconds);
const running = new Map();
let ended = 0;

function commandOf(file) {
  const [what, ...args] = file.split(' ');
  return what === 'firmware' ? ['scripts/firmware-suite', ...args] : [process.execPath, file];
}

/** bash measures the processor time of the suite and of all children that somebody waited for. The suite gets no descriptor but the
 *  first three: apt, as mmdebstrap starts it, fails on others. */
const timed = 'exec 4>&2; TIMEFORMAT="%U %S"; { time "$@" 2>&4 3>&- 4>&-; } 2>&3';

function begin(suite) {
  const began = performance.now();
  const limit = Math.max(limitSeconds, 3 * suite.seconds);
  const child = spawn('bash', ['-c', timed, 'suite', ...commandOf(suite.file)], {
    detached: true, // a process group of its own, to be ended as a whole
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
    env: { ...process.env, TAP_TIMEOUT: String(limit) },
  });
  const run = { suite, output: [], cpu: '', timedOut: false };
  child.stdout.on('data', (chunk) => run.output.push(chunk));
  child.stdio[3].on('data', (chunk) => (run.cpu += chunk));
  const timer = setTimeout(() => {
    run.timedOut = true;
    process.kill(-child.pid, 'SIGKILL');
  }, (limit + 30) * 1000);
  running.set(child, run);
  child.once('close', (code, signal) => {
    clearTimeout(timer);
    running.delete(child);
    end(run, code === 0 && signal === null, (performance.now() - began) / 1000);
    beginNext();
  });
}

function end({ suite, output, cpu, timedOut }, ok, seconds) {
  const [user = 0, system = 0] = cpu.trim().split('\n').at(-1)?.split(' ').map(Number) ?? [];
  const text = Buffer.concat(output).toString();
  const indented = text.replace(/\n+$/, '').replace(/^(?=.)/gm, '    ');
  const why = timedOut ? '    Bail out! time limit\n' : '';
  const figures = `time=${seconds.toFixed(1)}s cpu=${(user + system).toFixed(1)}s`;
  const point = `${ok ? 'ok' : 'not ok'} ${++ended} - ${suite.name} # ${figures}`;
  const block = `# Subtest: ${suite.name}\n${indented}\n${why}${point}\n\n`;
  appendFileSync(report, block);
  process.stdout.write(block);
}

/** Whether it may begin beside what runs. */
function fits(suite) {
  const others = [...running.values()].map((run) => run.suite);
  if (others.length === 0) return true;
  if (suite.apart || others.some(({ apart }) => apart)) return false;
  return others.reduce((sum, { cores }) => sum + cores, suite.cores) <= capacity;
}

function beginNext() {
  for (;;) {
    const at = suites.findIndex(fits);
    if (at < 0) return;
    begin(...suites.splice(at, 1));
  }
}

for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => {
    for (const child of running.keys()) process.kill(-child.pid, signal);
    suites.length = 0;
    process.exitCode = 1;
  });

/** Processor seconds of the whole machine since it started, but for what nobody used. */
function machineSeconds() {
  const [, user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'latin1').split('\n')[0].split(/\s+/).map(Number);
  return (user + nice + system + irq + softirq) / 100;
}

const before = machineSeconds();
const began = performance.now();
writeFileSync(report, 'TAP version 14\n');
process.once('beforeExit', () => {
  const total = `total=${((performance.now() - began) / 1000).toFixed(0)}s machine=${(machineSeconds() - before).toFixed(0)}s`;
  appendFileSync(report, `1..${ended}\n# ${total}\n`);
});
beginNext();
