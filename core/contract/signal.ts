/** Keeps the sources of a combined signal alive as long as the signal. */
const sources = new WeakMap<AbortSignal, readonly AbortSignal[]>();

/** Combines signals as AbortSignal.any does, but survives garbage collection. AbortSignal.any holds its sources weakly: Node 20
 *  loses a source made by AbortSignal.timeout, so that the limit never fires (nodejs/node#57736); Node 24.16 and later lose an
 *  aborted source, so that the combined signal no longer reports the abort (nodejs/node#65995). */
export function anySignal(...signals: AbortSignal[]): AbortSignal {
  const any = AbortSignal.any(signals);
  sources.set(any, signals);
  return any;
}
