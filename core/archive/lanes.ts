/** Does the work for each item, so many at a time. @returns what came of them, in the order of the items @throws the first error,
 *  after which no further one is begun */
export async function inLanes<T, R>(items: readonly T[], width: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const done: R[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let at = next++; at < items.length; at = next++) {
      const item = items[at];
      if (item !== undefined) done[at] = await work(item);
    }
  };
  const lanes = Array.from({ length: Math.min(width, items.length) }, lane);
  await Promise.all(lanes).catch((error: unknown) => {
    next = items.length;
    throw error;
  });
  return done;
}
