/** `make bench`: compares the service with other tools on the same container, in turns, and remote targets with the programs of their
 *  protocols. Writes docs/performance.md. BENCH_ONLY=service, remote, jobs, runs, live or pauses measures one part of it. BENCH_ONLY=versions
 *  compares the service with an earlier version of itself, BENCH_BEFORE. */
import { execFile } from 'node:child_process';
import { mkdir, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type Contender, measured, syncedToDisk } from './contender.js';
import { writeDocument } from './document.js';
import { Figures, type Phase, phases } from './figures.js';
import { type JobsReport, jobsText } from './growth/jobs-report.js';
import { measureJobs } from './growth/many-jobs.js';
import { measureRuns, type RunsCase } from './growth/many-runs.js';
import { type RunsReport, runsText } from './growth/runs-report.js';
import { measureTicks } from './growth/ticks.js';
import { fileSystems, measureChanges, measurePauses } from './live/live.js';
import { liveText, pausesText } from './live/report.js';
import { thisMachine, versionOf } from './machine.js';
import { peers } from './peers.js';
import { benchRemote } from './remote/remote.js';
import { remoteText } from './remote/report.js';
import { reportText } from './report.js';
import { ServiceContender } from './service.js';
import { BenchSubject, type Contents, contentsOf } from './subject.js';
import { verdicts } from './targets.js';
import { versionsText } from './versions-report.js';

const folder = process.env.BENCH_FOLDER ?? '/var/tmp/container-backup-bench';
const lxcPath = join(folder, 'lxc');
const work = join(folder, 'work');
const documentFile = fileURLToPath(new URL('../../../docs/performance.md', import.meta.url));
const onlyPart = process.env.BENCH_ONLY ?? '';
/** Rounds: two versions differ by less than single runs do, which differ by a tenth. */
const rounds = Math.max(1, Number(process.env.BENCH_ROUNDS ?? (onlyPart === 'versions' ? 10 : 3)));
const parts = ['service', 'remote', 'jobs', 'versions', 'runs', 'live', 'pauses'] as const;
const isWanted = (part: (typeof parts)[number]): boolean => onlyPart === part || (onlyPart === '' && part !== 'versions');
/** Of the big file, GiB. */
const liveGib = Number(process.env.BENCH_GIB ?? 4);
/** Of the files whose pause is measured, GiB, with commas between. */
const pauseGib = (process.env.BENCH_PAUSE_GIB ?? '1,4,16').split(',').map(Number);
/** Free bytes that the bench needs: for the container, one round's backups, all rounds' restores, and the files on the servers. */
const neededBytes =
  (isWanted('service') ? (rounds + 1) * 8e9 : 0) +
  (isWanted('versions') ? (rounds + 1) * 4e9 : 0) +
  (isWanted('remote') ? 6e9 : 0) +
  (isWanted('live') ? liveGib * 4.5e9 : 0) +
  (isWanted('pauses') ? Math.max(...pauseGib) * 1.2e9 : 0) +
  1e9;
/** A built earlier checkout, to measure too. */
const earlier = process.env.BENCH_BEFORE;
/** Ms to wait after a large removal. ext4 without a journal does not reuse an inode within six minutes of its removal, and searches long
 *  for another one: a restore took two to three times as long. So the bench removes restored files only at its end, and notes the time. */
const restAfterRemovalMs = 6 * 60_000;

const run = promisify(execFile);
const say = (text: string): void => console.log(text);
const stopped = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopped.abort(new Error(`stopped by ${signal}`)));

class Bench {
  readonly figures = new Figures();
  readonly #contents = new Map<'full' | 'changed', { readonly root: Contents; readonly data: Contents }>();
  changed = 0;

  constructor(
    private readonly subject: BenchSubject,
    private readonly contenders: readonly Contender[],
  ) {}

  get original(): { readonly root: Contents; readonly data: Contents } {
    const found = this.#contents.get('full');
    if (!found) throw new Error('nothing was measured');
    return found;
  }

  async round(round: number): Promise<void> {
    for (const contender of this.contenders) await contender.begin(round);
    await this.#look('full');
    const order = this.contenders.map((_, at) => this.contenders[(at + round - 1) % this.contenders.length]);
    for (const phase of phases) {
      if (phase === 'changed') this.changed = await this.subject.change(round);
      if (phase === 'changed') await this.#look('changed');
      if (phase === 'restore') await restAfterRemoval();
      for (const contender of order) if (contender) await this.#step(contender, phase, round);
    }
  }

  async #step(contender: Contender, phase: Phase, round: number): Promise<void> {
    stopped.signal.throwIfAborted();
    await this.#warm(contender, phase);
    const one = await measured(contender, phase, round);
    this.figures.add(one);
    const written = phase === 'restore' ? '' : `  ${(one.written / 1e6).toFixed(2)} MB written`;
    const times = `${one.seconds.toFixed(2).padStart(6)} s  ${one.durable.toFixed(2).padStart(6)} s until on disk  ${one.processor.toFixed(1)} s processor`;
    say(
      `${round}  ${phase.padEnd(9)}  ${contender.name.padEnd(16)}  ${times}  ${(one.peak / 2 ** 20).toFixed(0).padStart(4)} MiB${written}`,
    );
    if (phase === 'restore') await this.#check(contender);
  }

  /** Reads the files before each step, so that they are in the page cache. The machine may drop them within a minute. */
  async #warm({ destination }: Contender, phase: Phase): Promise<void> {
    if (phase !== 'restore') return this.subject.warm();
    await run('sh', ['-c', 'tar -cf - -- "$1" | cat >/dev/null', 'sh', destination]);
  }

  async #look(state: 'full' | 'changed'): Promise<void> {
    this.#contents.set(state, { root: await contentsOf(this.subject.root), data: await contentsOf(this.subject.data) });
  }

  /** @throws Error when a restore brought back other files: its figures do not count. A copy has its own name and machine id. */
  async #check(contender: Contender): Promise<void> {
    const wanted = this.#contents.get(contender.restoresLatest ? 'changed' : 'full');
    const [root, data] = [...(await Promise.all(this.subject.parts.map((part) => contentsOf(join(contender.restored, part)))))];
    if (root?.entries !== wanted?.root.entries || data?.hash !== wanted?.data.hash) {
      const found = JSON.stringify({ wanted, found: { root, data } });
      throw new Error(`${contender.name} did not restore what was there: ${found}`);
    }
  }
}

const removedFile = join(folder, 'removed');

/** Waits only when the bench runs twice in a row. */
async function restAfterRemoval(): Promise<void> {
  const removed = await stat(removedFile).catch(() => undefined);
  const left = (removed?.mtimeMs ?? 0) + restAfterRemovalMs - Date.now();
  if (left <= 0) return;
  say(`waiting ${(left / 1000).toFixed(0)} s: what the run before removed still slows the making of files`);
  await sleep(left, undefined, { signal: stopped.signal });
}

/** Removes also what a killed bench left. */
async function removeWork(): Promise<void> {
  const copies = await new BenchSubject(lxcPath, say).removeCopies();
  if (!copies && !(await stat(work).catch(() => undefined))) return;
  await rm(work, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  await syncedToDisk(folder);
  await writeFile(removedFile, '');
}

async function refuseUnfit(): Promise<void> {
  if (!['', ...parts].includes(onlyPart)) throw new Error(`BENCH_ONLY is one of ${parts.join(', ')}`);
  if (isWanted('versions') && earlier === undefined) throw new Error('BENCH_BEFORE= is the built checkout to compare with');
  if (process.getuid?.() !== 0) throw new Error('this needs root: it makes containers');
  await mkdir(folder, { recursive: true });
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < neededBytes)
    throw new Error(`${folder} has ${(bavail * bsize) / 1e9} GB free, ${neededBytes / 1e9} are needed: BENCH_FOLDER=`);
}

async function bench(): Promise<void> {
  const began = performance.now();
  await using subject = new BenchSubject(lxcPath, say);
  await subject.start(rounds);
  const machine = await thisMachine(folder);
  await using service = await ServiceContender.open(subject, work, stopped.signal);
  const folders = { subject: subject.folder, parts: subject.parts, work };
  const contenders = [service, ...(await peers(folders, stopped.signal))];
  const all = new Bench(subject, contenders);
  for (let round = 1; round <= rounds; round++) await all.round(round);
  const { figures, changed, original } = all;
  for (const { what, wanted, measured, met } of verdicts(figures))
    say(`${met ? 'met   ' : 'MISSED'}  ${what}: ${measured}, wanted ${wanted}`);
  await writeDocument(documentFile, {
    service: reportText({ date: new Date(), machine, rounds, ...original, changed, contenders, figures }),
  });
  say(`docs/performance.md is written; ${((performance.now() - began) / 60_000).toFixed(1)} min`);
}

async function versionsBench(): Promise<void> {
  await using subject = new BenchSubject(lxcPath, say);
  await subject.start(rounds);
  await using before = await ServiceContender.open(subject, work, stopped.signal, { ...(earlier !== undefined && { checkout: earlier }) });
  await using now = await ServiceContender.open(subject, work, stopped.signal);
  const [load = 0] = loadavg();
  const all = new Bench(subject, [before, now]);
  for (let round = 1; round <= rounds; round++) await all.round(round);
  const machine = await thisMachine(folder);
  const text = versionsText({ date: new Date(), machine, load, rounds, before, now, figures: all.figures });
  say(text);
  await writeDocument(documentFile, { versions: text });
}

async function liveBench(): Promise<void> {
  const rows = await measureChanges({ work, lxcPath, signal: stopped.signal, say }, liveGib * 2 ** 30);
  await writeDocument(documentFile, { live: liveText({ date: new Date(), machine: await thisMachine(folder), rows }, liveGib) });
}

async function pausesBench(): Promise<void> {
  const rows = await measurePauses({ work, lxcPath, signal: stopped.signal, say }, fileSystems, pauseGib);
  await writeDocument(documentFile, { pauses: pausesText({ date: new Date(), machine: await thisMachine(folder), rows }) });
}

async function remoteBench(): Promise<void> {
  const began = performance.now();
  const bench = await benchRemote({ work, rounds, signal: stopped.signal, say });
  const versions = [
    ['Node.js', process.version],
    ['smbclient', await versionOf('smbclient', '--version')],
    ['OpenSSH', await versionOf('sh', '-c', 'ssh -V 2>&1')],
    ['rsync', await versionOf('rsync', '--version')],
  ] as const;
  for (const { target, direction, delay, peer, ratio, wanted, met } of bench.rows)
    if (wanted !== undefined)
      say(
        `${met ? 'met   ' : 'MISSED'}  ${target}, ${direction}, ${delay} ms, against ${peer}: ${ratio.median.toFixed(2)}, wanted ≥ ${wanted}`,
      );
  await writeDocument(documentFile, { remote: remoteText({ date: new Date(), machine: await thisMachine(folder), versions, bench }) });
  say(`the remote part of docs/performance.md is written; ${((performance.now() - began) / 60_000).toFixed(1)} min`);
}

/** The earlier version gets fewer jobs, because its requests take longer with more jobs. */
async function jobsBench(): Promise<void> {
  const here = fileURLToPath(new URL('../../../', import.meta.url));
  const sizes = [
    ...(earlier === undefined ? [] : [1000, 2000].map((jobs) => [earlier, jobs] as const)),
    ...[1000, 2000, 10_000].map((jobs) => [here, jobs] as const),
  ];
  const rows: JobsReport['rows'][number][] = [];
  for (const [checkout, jobs] of sizes) {
    const { stdout } = await run('git', ['-C', checkout, 'rev-parse', '--short', 'HEAD']);
    const figures = await measureJobs(checkout, work, jobs);
    const ticks = checkout === here ? await measureTicks(work, jobs) : undefined;
    rows.push({ version: stdout.trim(), figures, ...(ticks && { ticks }) });
    say(`${stdout.trim()}  ${JSON.stringify({ ...figures, ...ticks })}`);
  }
  const [load = 0] = loadavg();
  await writeDocument(documentFile, { jobs: jobsText({ date: new Date(), machine: await thisMachine(folder), load, rows }) });
}

/** The earlier version gets fewer runs, because it reads all manifests one after the other. */
async function runsBench(): Promise<void> {
  const here = fileURLToPath(new URL('../../../', import.meta.url));
  const cases: RunsCase[] = [
    ...(earlier === undefined
      ? []
      : [
          { checkout: earlier, runs: 2000 },
          { checkout: earlier, runs: 10_000 },
        ]),
    ...(earlier === undefined ? [] : [{ checkout: earlier, runs: 200, smb: 20 }]),
    ...[
      { checkout: here, runs: 2000 },
      { checkout: here, runs: 10_000 },
    ],
    ...[
      { checkout: here, runs: 200, smb: 20 },
      { checkout: here, runs: 10_000, smb: 20 },
    ],
  ];
  const wanted = process.env.BENCH_RUNS_CASE;
  const rows: RunsReport['rows'][number][] = [];
  for (const [n, one] of cases.entries()) {
    if (wanted !== undefined && wanted !== `${n}`) continue;
    const { stdout } = await run('git', ['-C', one.checkout, 'rev-parse', '--short', 'HEAD']);
    const figures = await measureRuns(one, work);
    rows.push({ version: stdout.trim(), one, figures });
    say(`${stdout.trim()}  ${JSON.stringify({ ...one, checkout: undefined, ...figures })}`);
  }
  const [load = 0] = loadavg();
  const text = runsText({ date: new Date(), machine: await thisMachine(folder), load, rows });
  if (wanted === undefined) await writeDocument(documentFile, { runs: text });
  else say(text);
}

try {
  await refuseUnfit();
  await removeWork();
  await mkdir(work);
  if (isWanted('service')) await bench();
  if (isWanted('remote')) await remoteBench();
  if (isWanted('jobs')) await jobsBench();
  if (isWanted('versions')) await versionsBench();
  if (isWanted('runs')) await runsBench();
  if (isWanted('live')) await liveBench();
  if (isWanted('pauses')) await pausesBench();
} catch (error) {
  const told: unknown = stopped.signal.aborted ? stopped.signal.reason : error;
  console.error(told instanceof Error ? told.message : told);
  process.exitCode = 1;
} finally {
  await removeWork();
}
