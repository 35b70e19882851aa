/** Times of one thing that is done again and again, one after the other. */

/** Milliseconds: median, and that of the slowest hundredth. */
export type Spread = readonly [median: number, slowest: number];

export const samples = 500;
/** Before the first that counts: code that has just been loaded is slow. */
const unmeasured = 100;

/** @param prepare is not measured */
export async function spread(action: (n: number) => Promise<unknown>, prepare?: (n: number) => Promise<unknown>): Promise<Spread> {
  const times: number[] = [];
  for (let n = 0; n < unmeasured + samples; n++) {
    await prepare?.(n);
    const took = await timed(() => action(n));
    if (n >= unmeasured) times.push(took);
  }
  times.sort((a, b) => a - b);
  return [times[Math.floor(samples / 2)] ?? 0, times[Math.floor(samples * 0.99)] ?? 0];
}

/** Milliseconds. */
export async function timed(action: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await action();
  return performance.now() - began;
}
