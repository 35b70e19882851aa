/** Time limits of a put: an abort must settle within 5 s by the contract, also when the server no longer answers. */
import { untilAborted } from '../source.js';

/** Runs the step that gives an upload its name. An abort of `signal` waits `graceMs` for its end, because a step left half way would
 *  leave it unknown whether the file exists. @throws PluginError aborted */
export async function finishWithin<T>(
  graceMs: number,
  signal: AbortSignal,
  what: string,
  work: (late: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const abort = () => {
    timer = setTimeout(() => late.abort(), graceMs);
  };
  signal.addEventListener('abort', abort, { once: true });
  try {
    if (signal.aborted) abort();
    return await untilAborted(work(late.signal), late.signal, what);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}

/** Runs an undo for `ms` at most. After that it goes on by itself, and what it could not remove stays as unfinished.
 *  @returns undefined when it failed or took longer */
export async function settleWithin<T>(ms: number, work: (late: AbortSignal) => Promise<T>): Promise<T | undefined> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), ms).unref();
  try {
    return await untilAborted(work(late.signal), late.signal, 'undo');
  } catch {
    return undefined; // the error that the undo is for says more
  } finally {
    clearTimeout(timer);
  }
}
