/** Shares that have been marked: name and folder. */
import type { Database } from './copies/database.js';
import { type Kind, records } from './row-format.js';

export interface ShareRecords {
  /** The folder that the share was marked at. */
  get(share: string): Promise<string | undefined>;
  put(share: string, root: string): Promise<void>;
}

const kind: Kind<string> = {
  name: 'share',
  version: 1,
  steps: {},
  read({ root }) {
    if (typeof root !== 'string') throw new Error('damaged share record');
    return root;
  },
  write: (root) => ({ root }),
};

export function shareRecords(db: Database): ShareRecords {
  const kept = records(db, kind);
  return { get: (share) => kept.get(share), put: (share, root) => kept.put(share, root) };
}
