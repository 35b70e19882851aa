import { getHeapStatistics } from 'node:v8';

/** Interval between two looks at external memory, ms. A fast target moves some 10 MiB in that time. */
const everyMs = 20;
/** External bytes above which a collection is forced. Some 25 MiB are alive, 20 of them from the start. Below 60 MiB the cost of
 *  collections can be measured. */
const most = 68 << 20;

/** Forces garbage collections while many dead buffers wait. V8 counts a buffer of 256 KiB as a few bytes, and by itself lets 64 to
 *  128 MiB of them wait. Needs `--expose-gc` (the service's first line); without it V8's own limit holds. */
export function boundBuffers(): void {
  const collect = globalThis.gc;
  if (collect === undefined) return;
  const look = (): void => {
    if (getHeapStatistics().external_memory <= most) return;
    collect({ type: 'minor' });
    if (getHeapStatistics().external_memory > most) collect();
  };
  setInterval(look, everyMs).unref();
}
