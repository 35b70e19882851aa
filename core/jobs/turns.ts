/** Works on so many items at a time, in their order. When one fails no other is begun, `stop` is to end those under way, which
 *  are waited for, and the first error is thrown. */
export async function allInTurns<T>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<void>,
  stop: () => void,
): Promise<void> {
  const waiting = [...items];
  const errors: unknown[] = [];
  const worker = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      await work(next).catch((error: unknown) => {
        errors.push(error);
        waiting.length = 0;
        stop();
      });
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  if (errors.length > 0) throw errors[0];
}

const mostAtOnce = 2;

/** How many sources are read or written at a time, on a target of so many connections: one of many small files waits for the disk and for tar, and leaves a core
 *  idle that another can use. Each costs the memory of a compressor. */
export const sourcesAtOnce = (connections: number): number => Math.max(1, Math.min(mostAtOnce, connections));
