/** Runs `work` for each item, at most `width` at a time, in order. After a failure it starts no more, calls `stop` to end those
 *  that run, waits for them and throws the first error. @returns the results in the order of the items */
export async function inLanes<T, R>(
  items: readonly T[],
  width: number,
  work: (item: T) => Promise<R>,
  stop: () => void = () => undefined,
): Promise<R[]> {
  const done: R[] = [];
  const errors: unknown[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let at = next++; at < items.length; at = next++) {
      const item = items[at];
      if (item === undefined) continue;
      try {
        done[at] = await work(item);
      } catch (error) {
        errors.push(error);
        next = items.length;
        stop();
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, lane));
  if (errors.length > 0) throw errors[0];
  return done;
}
