/** Times of an action that is repeated. */

/** Milliseconds: the median and the 99th percentile. */
export type Spread = readonly [median: number, slowest: number];

export const samples = 500;
/** Repetitions before the first that counts: code is slow until it is compiled. */
const unmeasured = 200;

/** @param prepare runs before each repetition and is not measured */
export async function spread(action: (n: number) => Promise<unknown>, prepare?: (n: number) => Promise<unknown>): Promise<Spread> {
  const times: number[] = [];
  for (let n = 0; n < unmeasured + samples; n++) {
    await prepare?.(n);
    const took = await timed(() => action(n));
    if (n >= unmeasured) times.push(took);
  }
  return spreadOf(times);
}

/** Two actions in turns, so that the machine's load changes both alike. */
export async function spreadPair(one: () => Promise<unknown>, other: () => Promise<unknown>): Promise<[Spread, Spread]> {
  const others: number[] = [];
  const ones = await spread(one, async () => others.push(await timed(other)));
  return [ones, spreadOf(others.slice(unmeasured))];
}

function spreadOf(times: number[]): Spread {
  times.sort((a, b) => a - b);
  return [times[Math.floor(times.length / 2)] ?? 0, times[Math.floor(times.length * 0.99)] ?? 0];
}

/** Milliseconds. */
export async function timed(action: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await action();
  return performance.now() - began;
}
