/**
 * Detects wall clocks that step backwards. Levels compare file times, so after such a step every backup needs a new base.
 * A small file stores the latest time seen and an epoch, which counts the steps.
 */
import { readFile } from 'node:fs/promises';
import type { PluginLog } from '../../contract/plugin.js';
import { durableFile } from '../../primitives/durable.js';
import { Mutex } from '../../primitives/mutex.js';

/** NTP slews a clock by milliseconds between two looks; more than this is a step. */
const tolerance = 1000;
/** Interval of notes between runs: rare enough for flash, frequent enough to notice an empty clock battery. */
const noteEvery = 600_000;

export interface WallClock {
  now(): number;
  /** Compares wall time with the monotonic clock. @returns whether wall time stepped back since the last look */
  look(): Promise<boolean>;
  /** Stores the time durably. On a full disk it logs that, and a later look stores it. */
  note(): Promise<void>;
  needsNewBase(id: number): boolean;
  epoch(): number;
  /** Notes that a run of this epoch succeeded. */
  noteBase(id: number, epoch: number): Promise<void>;
  forget(id: number): Promise<void>;
}

interface Kept {
  /** Written by a version without a journal of the state; core/store/copies/adoption.ts asks for it. */
  earlier: boolean;
  latest: number;
  epoch: number;
  bases: Map<number, number>; // backup id → epoch of its latest complete run
}

export async function openClock(file: string, clock: () => number, log: PluginLog = () => undefined): Promise<WallClock> {
  const opened = new KeptClock(file, clock, await load(file), log);
  await opened.compare();
  return opened;
}

class KeptClock implements WallClock {
  #wall: number;
  #monotonic = performance.now();
  #noted = this.#monotonic;
  readonly #saves = new Mutex();
  #isUnsaved = false;

  constructor(
    private readonly file: string,
    readonly now: () => number,
    private readonly kept: Kept,
    private readonly log: PluginLog,
  ) {
    this.#wall = now();
  }

  /** Compares wall time with the time stored before this start. */
  async compare(): Promise<void> {
    if (this.#wall < this.kept.latest) await this.#steppedBack();
    else if (this.kept.earlier) await this.note();
  }

  async look(): Promise<boolean> {
    const step = this.now() - this.#wall - (performance.now() - this.#monotonic);
    this.#wall = this.now();
    this.#monotonic = performance.now();
    if (step < -tolerance) await this.#steppedBack();
    else if (this.#isUnsaved || this.#monotonic - this.#noted > noteEvery) await this.note();
    return step < -tolerance;
  }

  note(): Promise<void> {
    this.kept.latest = Math.max(this.kept.latest, this.now());
    this.#noted = performance.now();
    return this.#saves.run(() => this.#save());
  }

  async #save(): Promise<void> {
    try {
      await store(this.file, this.kept);
      this.#isUnsaved = false;
    } catch (error) {
      if (!this.#isUnsaved) this.log('warn', `the time cannot be noted in ${this.file} yet: ${error}`);
      this.#isUnsaved = true;
    }
  }

  needsNewBase(id: number): boolean {
    return (this.kept.bases.get(id) ?? 0) < this.kept.epoch;
  }

  epoch(): number {
    return this.kept.epoch;
  }

  async noteBase(id: number, epoch: number): Promise<void> {
    this.kept.bases.set(id, epoch);
    await this.note();
  }

  async forget(id: number): Promise<void> {
    if (this.kept.bases.delete(id)) await this.note();
  }

  async #steppedBack(): Promise<void> {
    this.kept.epoch++;
    this.kept.latest = this.now();
    await this.note();
  }
}

async function load(file: string): Promise<Kept> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return { earlier: false, latest: 0, epoch: 0, bases: new Map() };
  return parse(text) ?? { earlier: false, latest: 0, epoch: 1, bases: new Map() }; // a damaged file: every backup gets a new base
}

function parse(text: string): Kept | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    const { latest, epoch, bases, journal }: Record<string, unknown> = { ...value };
    if (typeof latest !== 'number' || typeof epoch !== 'number' || typeof bases !== 'object' || bases === null) return undefined;
    const entries = Object.entries(bases).map(([id, of]): [number, number] => [Number(id), Number(of)]);
    return { earlier: journal === undefined, latest, epoch, bases: new Map(entries) };
  } catch {
    return undefined;
  }
}

function store(file: string, { latest, epoch, bases }: Kept): Promise<void> {
  return durableFile(file, JSON.stringify({ version: 1, journal: 1, latest, epoch, bases: Object.fromEntries(bases) }));
}
