/** A job's run while it is in the service's hands, and how one that was cut off is told. */
import { PluginError } from '../contract/index.js';
import type { Run, RunResult } from './launcher.js';

/** A run from the moment it waits to its end. */
export interface Slot {
  readonly ended: Promise<void>;
  readonly end: () => void;
  run?: Run;
  stop?: 'user' | 'shutdown';
}

export const interrupted = { code: 'interrupted', message: 'the service ended during the run; run the job again' };

export function told(error: unknown): { readonly code: string; readonly message: string } {
  return error instanceof PluginError ? { code: error.code, message: error.message } : { code: 'io', message: `${error}` };
}

export function newSlot(): Slot {
  let end = () => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  return { ended, end };
}

export function stopped(why: 'user' | 'shutdown'): RunResult {
  return why === 'user' ? { type: 'result', result: -2 } : { type: 'result', result: -1, error: interrupted };
}
