/** Starts a run, kills the service or one of its children in the middle, and restarts the service. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Body, notSoon, part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import type { DemoService } from '../../support/demo-client.js';
import { descendants, type Process } from '../bed/process-tree.js';
import type { BusyContainer, Engine, State } from './busy-container.js';
import type { Ledger } from './ledger.js';
import type { Random } from './random.js';

export type Victim = 'service' | 'child';
export type JobKind = 'backup' | 'restore';

/** Not lxc-start: its process becomes the container's monitor, which no crash of the service kills. */
const children = new Set(['tar', 'zstd', 'perl', 'bwrap', 'setpriv', 'sync', 'lxc-freeze', 'lxc-unfreeze', 'lxc-stop', 'lxc-info']);
/** Time limit of a thaw. A container that is frozen for longer is a fault; the bench thaws it to continue. */
const thawLimitMs = 10_000;

/** A point in a run: a part of the run's usual length, or so many ms after the container went through the states, or after the suite
 *  saw something of the run. */
export type Moment =
  | { readonly part: number }
  | { readonly seen: readonly State[]; readonly delayMs: number }
  | { readonly shows: () => boolean; readonly delayMs: number };

/** What a suite sees of a run right before the kill. It reads at once: an engine's tools take some milliseconds, in which a pause may end. */
export interface Look {
  readonly state: State;
  /** What the run did, in a word of the suite. */
  readonly during: string;
}

export interface Hit {
  readonly victim: Victim;
  /** The killed process: the service, or the command of the child. */
  readonly what: string;
  /** State of the container at the kill. */
  readonly state: State;
  /** As Look.during; empty without a look. */
  readonly during: string;
  /** Ms since the request to run. */
  readonly afterMs: number;
  /** Result of the run. */
  readonly outcome: Body;
  /** Ms from the moment at which a process could thaw the container, until it was no longer frozen. */
  readonly thawedMs: number;
}

export interface Attempt {
  readonly kind: JobKind;
  readonly id: number;
  readonly container: string;
  readonly engine: Engine;
  readonly victim: Victim;
  /** Kills one child with this command. */
  readonly command?: string;
  /** Kills one of these children. */
  readonly isVictim?: (child: Process) => boolean;
  readonly when: Moment;
  readonly look?: () => Look;
  /** Usual length of such a run, for `part`. */
  readonly usual: string;
}

/** A run and what the bench sees of it until it ends. */
interface Watched {
  readonly ended: Promise<Body>;
  over(): boolean;
}

export class CrashBench {
  /** Number of kills during a run, and of those at which the container was frozen. */
  kills = 0;
  frozen = 0;
  late = 0;
  slowestThawMs = 0;
  readonly byWhat = new Map<string, number>();
  readonly #expected = new Map<string, number>();

  constructor(
    readonly a: Appliance,
    readonly random: Random,
    readonly ledger: Ledger,
  ) {}

  /** Measures such a run without a kill. */
  learn(what: string, { duration }: Body): void {
    const before = this.#expected.get(what) ?? Number(duration);
    this.#expected.set(what, before * 0.5 + Number(duration) * 0.5);
  }

  /** Kills during a run. Afterwards the service runs. @returns undefined when the run ended before the kill */
  async interrupt(attempt: Attempt): Promise<Hit | undefined> {
    const began = performance.now();
    const run = watched(this.a.service, attempt);
    const hit = await (attempt.victim === 'service' ? this.#killService(attempt, run, began) : this.#killChild(attempt, run, began));
    if (!hit) {
      this.late++;
      return undefined;
    }
    this.kills++;
    if (hit.state === 'frozen') this.frozen++;
    this.slowestThawMs = Math.max(this.slowestThawMs, hit.thawedMs);
    this.byWhat.set(hit.what, (this.byWhat.get(hit.what) ?? 0) + 1);
    return hit;
  }

  async #moment({ when, usual, engine, container }: Attempt, run: Watched): Promise<void> {
    if ('part' in when) return sleep(when.part * (this.#expected.get(usual) ?? 1000));
    if ('shows' in when) while (!run.over() && !when.shows()) await sleep(1);
    else for (const wanted of when.seen) while (!run.over() && (await engine.state(container)) !== wanted) await sleep(2);
    await sleep(when.delayMs);
  }

  async #killService(attempt: Attempt, run: Watched, began: number): Promise<Hit | undefined> {
    const { kind, id, container, engine } = attempt;
    const { service } = this.a;
    const writing = this.ledger.write(service);
    await this.#moment(attempt, run);
    const afterMs = performance.now() - began;
    const during = attempt.look?.().during ?? '';
    await service.kill();
    await writing.end();
    const state = await engine.state(container); // no process can thaw it now
    await this.a.restart();
    const thawedMs = await thawed(engine, container);
    const outcome = await stateOf(this.a.service, kind, id);
    const over = outcome.result === 0; // the run ended between the last poll and the kill
    return over ? undefined : { victim: 'service', what: 'service', state, during, afterMs, outcome, thawedMs };
  }

  async #killChild(attempt: Attempt, run: Watched, began: number): Promise<Hit | undefined> {
    const { container, engine } = attempt;
    const { service } = this.a;
    await this.#moment(attempt, run);
    let what: string | undefined;
    let seen: Look = { state: 'absent', during: '' };
    while (!run.over() && what === undefined) {
      const state = attempt.look ? 'absent' : await engine.state(container);
      what = this.#shoot(service.pid, attempt, () => {
        seen = attempt.look?.() ?? { state, during: '' };
      });
      if (what === undefined) await sleep(1);
    }
    const afterMs = performance.now() - began;
    const outcome = await run.ended;
    const thawedMs = await thawed(engine, container);
    return what === undefined ? undefined : { victim: 'child', what, ...seen, afterMs, outcome, thawedMs };
  }

  /** Kills a child whose command was killed least often so far. @param look called right before @returns the command */
  #shoot(service: number, { command, isVictim }: Attempt, look: () => void): string | undefined {
    const wanted = isVictim ?? (({ name }: Process) => (command === undefined ? children.has(name) : name === command));
    const there = descendants(service).filter(wanted);
    const hits = ({ name }: { readonly name: string }): number => this.byWhat.get(name) ?? 0;
    const least = Math.min(...there.map(hits));
    const child = this.random.pick(there.filter((one) => hits(one) === least));
    if (!child) return undefined;
    look();
    try {
      process.kill(child.pid, 'SIGKILL');
      return child.name;
    } catch {
      return undefined; // the child has just ended
    }
  }
}

function watched(service: DemoService, { kind, id }: Attempt): Watched {
  let over = false;
  const ended = service.settled(kind, id).finally(() => {
    over = true;
  });
  ended.catch(() => undefined); // the service may be killed; after the kill of a child it is awaited
  return { ended, over: () => over };
}

/** Waits until the container is no longer frozen. @returns ms since a process could thaw it */
async function thawed(engine: Engine, container: string): Promise<number> {
  const began = performance.now();
  while ((await engine.state(container)) === 'frozen') {
    if (performance.now() - began > thawLimitMs) await engine.thaw(container);
    else await sleep(20);
  }
  return Math.round(performance.now() - began);
}

export const describeHit = ({ what, state, during, afterMs, outcome }: Hit): string =>
  `${what} killed after ${Math.round(afterMs)} ms${during && ` (${during})`}, container ${state}: ${outcome.result} ${part(outcome.error, 'code') ?? ''}`;

/** The job's state, once it neither waits nor runs. */
export async function stateOf(service: DemoService, kind: JobKind, id: number): Promise<Body> {
  const state = part(await service.call('GET', `/${kind}/${id}?view=full`), 'state');
  const code = part(state, 'code');
  if (code === 'waiting' || code === 'running' || code === 'init') return service.settled(kind, id);
  return typeof state === 'object' && state !== null ? { ...state } : {};
}

type Named = Pick<BusyContainer, 'engine' | 'name'>;

/** The jobs for a container, and the requests for them. */
export function backupBody({ engine, name }: Named, retention: number): Body {
  return {
    job_name: name,
    container_id: name,
    type: engine.type,
    dest: { target: 'local', path: '/test/crash' },
    at: notSoon(),
    features: ['compress', 'pause'],
    retention,
  };
}

export function restoreBody({ engine, name }: Named, container: string, run: string): Body {
  const src = { target: 'local', path: '/test/crash', portfolio: `${name}/${run}` };
  return { job_name: `restore of ${name}`, container_id: container, type: engine.type, src };
}
