/**
 * Whether wall time can be trusted: levels rest on it, so that after a step backwards every backup needs a new base.
 * The latest time seen and an epoch (counted up at each step back) are kept durably in a small file.
 */
import { readFile } from 'node:fs/promises';
import { durableFile } from '../durable.js';

/** Slewing moves a clock by milliseconds between two looks; more than this is a step. */
const tolerance = 1000;
/** Between runs the time is noted this often: rarely enough for flash, often enough to notice an empty clock battery. */
const noteEvery = 600_000;

export interface WallClock {
  now(): number;
  /** Compares with the monotonic clock; true when wall time stepped back since the last look. */
  look(): Promise<boolean>;
  /** Notes the time durably, as a run begins or ends. */
  note(): Promise<void>;
  needsNewBase(id: number): boolean;
  epoch(): number;
  /** A run that began in that epoch succeeded. */
  based(id: number, epoch: number): Promise<void>;
  forget(id: number): Promise<void>;
}

interface Kept {
  latest: number;
  epoch: number;
  bases: Map<number, number>; // backup id → epoch of its latest complete run
}

export async function openClock(file: string, clock: () => number): Promise<WallClock> {
  const kept = await load(file);
  let wall = clock();
  let monotonic = performance.now();
  let noted = monotonic;
  let turn = Promise.resolve();
  const save = () => {
    kept.latest = Math.max(kept.latest, clock());
    noted = performance.now();
    const saved = turn.then(() => store(file, kept));
    turn = saved.catch(() => undefined);
    return saved;
  };
  const steppedBack = async () => {
    kept.epoch++;
    kept.latest = clock();
    await save();
  };
  if (wall < kept.latest) await steppedBack();
  const look = async () => {
    const step = clock() - wall - (performance.now() - monotonic);
    wall = clock();
    monotonic = performance.now();
    if (step < -tolerance) await steppedBack();
    else if (monotonic - noted > noteEvery) await save();
    return step < -tolerance;
  };
  return {
    now: clock,
    look,
    note: save,
    needsNewBase: (id) => (kept.bases.get(id) ?? 0) < kept.epoch,
    epoch: () => kept.epoch,
    based: async (id, epoch) => {
      kept.bases.set(id, epoch);
      await save();
    },
    forget: async (id) => {
      if (kept.bases.delete(id)) await save();
    },
  };
}

async function load(file: string): Promise<Kept> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return { latest: 0, epoch: 0, bases: new Map() };
  return parse(text) ?? { latest: 0, epoch: 1, bases: new Map() }; // damaged: nothing is known, so every base is new
}

function parse(text: string): Kept | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    const { latest, epoch, bases }: Record<string, unknown> = { ...value };
    if (typeof latest !== 'number' || typeof epoch !== 'number' || typeof bases !== 'object' || bases === null) return undefined;
    const entries = Object.entries(bases).map(([id, of]): [number, number] => [Number(id), Number(of)]);
    return { latest, epoch, bases: new Map(entries) };
  } catch {
    return undefined;
  }
}

function store(file: string, { latest, epoch, bases }: Kept): Promise<void> {
  return durableFile(file, JSON.stringify({ version: 1, latest, epoch, bases: Object.fromEntries(bases) }));
}
