/** The user's preferences. */
import type { Database } from './copies/database.js';
import { openTable, type RowFormat } from './row-format.js';

export interface Preferences {
  /** Jobs that run at the same time. */
  readonly backup_concurrent: number;
  /** Longest pause of jobs that have no limit of their own. */
  readonly max_pause_seconds?: number;
}
export interface PreferenceRows {
  get(): Promise<Preferences>;
  put(preferences: Preferences): Promise<void>;
}

// Two keep a NAS's disks busy without starving other services.
const defaults: Preferences = { backup_concurrent: 2 };

const kind: RowFormat<Preferences> = {
  name: 'preference',
  version: 1,
  steps: {},
  read({ backup_concurrent: concurrent, max_pause_seconds: most }) {
    const backup_concurrent = typeof concurrent === 'number' ? concurrent : defaults.backup_concurrent;
    return { backup_concurrent, ...(typeof most === 'number' && { max_pause_seconds: most }) };
  },
  write: (preferences) => ({ ...preferences }),
};

export function openPreferences(db: Database): PreferenceRows {
  const kept = openTable(db, kind);
  return {
    get: async () => (await kept.get('all')) ?? defaults,
    put: (preferences) => kept.put('all', preferences),
  };
}
