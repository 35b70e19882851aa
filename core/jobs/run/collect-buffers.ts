import { getHeapStatistics } from 'node:v8';

/** How often a run's thread looks at its buffers, ms. At the speed of a fast target some 10 MiB come in that time. */
const everyMs = 20;
/** Bytes outside of V8's heap after which dead buffers are collected. Alive are some 25 MiB, of which 20 are there from the start;
 *  below 60 MiB it shows what collections cost. */
const most = 68 << 20;

/** Collects dead buffers before they are many. To V8 a buffer of 256 KiB is an object of some bytes: by itself it waits for
 *  64 to 128 MiB of them. Needs `--expose-gc` (the service's first line); without it V8's own bound holds. */
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
