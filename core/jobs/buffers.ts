/** How often a run's thread looks at its buffers, ms. At the speed of a fast target some 10 MiB come in that time. */
const everyMs = 20;
/** Bytes of buffers after which dead ones are collected. Alive are some 5 MiB; what a collection costs shows below 40 MiB. */
const most = 48 << 20;

/** Collects dead buffers before they are many. To V8 a buffer of 256 KiB is an object of some bytes: by itself it waits for
 *  64 to 128 MiB of them. Needs `--expose-gc` (the service's first line); without it V8's own bound holds. */
export function boundBuffers(): void {
  const collect = globalThis.gc;
  if (collect === undefined) return;
  const look = (): void => {
    if (process.memoryUsage().arrayBuffers <= most) return;
    collect({ type: 'minor' });
    if (process.memoryUsage().arrayBuffers > most) collect();
  };
  setInterval(look, everyMs).unref();
}
