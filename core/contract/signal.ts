/** What a combined signal waits for must live as long as it does. */
const sources = new WeakMap<AbortSignal, readonly AbortSignal[]>();

/** Aborted once one of the signals is; as AbortSignal.any, which holds them so weakly that garbage collection breaks it: in
 *  Node 20 one of AbortSignal.timeout is lost before its time, so that what it was to limit waits for ever (nodejs/node#57736);
 *  from Node 24.16 on one that was aborted is, and the combined signal does not say so any more (nodejs/node#65995). */
export function anySignal(...signals: AbortSignal[]): AbortSignal {
  const any = AbortSignal.any(signals);
  sources.set(any, signals);
  return any;
}
