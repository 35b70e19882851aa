/** Random points that a seed reproduces. */
import { seed as suiteSeed } from '../../support/depth.js';

export interface Random {
  readonly seed: number;
  /** From 0 to 1, without 1. */
  next(): number;
  pick<T>(list: readonly T[]): T | undefined;
  shuffled<T>(list: readonly T[]): T[];
  /** One random point in each of `count` equal parts of 0 to 1, in random order. */
  spread(count: number): number[];
}

/** Mulberry32: a small generator, good enough for moments and values. @returns numbers from 0 to 1, without 1 */
export function mulberry(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function seededRandom(seed = suiteSeed): Random {
  const next = mulberry(seed);
  const shuffled = <T>(list: readonly T[]): T[] =>
    list
      .map((item) => ({ item, rank: next() }))
      .sort((a, b) => a.rank - b.rank)
      .map(({ item }) => item);
  return {
    seed,
    next,
    pick: (list) => list[Math.floor(next() * list.length)],
    shuffled,
    spread: (count) => shuffled(Array.from({ length: count }, (_, n) => (n + next()) / count)),
  };
}
