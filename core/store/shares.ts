/** Shares that have a marker, with their folders. */
import type { Database } from './copies/database.js';
import { openTable, type RowFormat } from './row-format.js';

export interface ShareRows {
  /** The folder in which the share was marked. */
  get(share: string): Promise<string | undefined>;
  put(share: string, root: string): Promise<void>;
}

const kind: RowFormat<string> = {
  name: 'share',
  version: 1,
  steps: {},
  read({ root }) {
    if (typeof root !== 'string') throw new Error('damaged share row');
    return root;
  },
  write: (root) => ({ root }),
};

export function openShares(db: Database): ShareRows {
  const table = openTable(db, kind);
  return { get: (share) => table.get(share), put: (share, root) => table.put(share, root) };
}
