/** What must outlive a power cut: jobs, leases, targets, users, sessions, preferences.
 *  One process opens the folder; every write is synced before it is acknowledged. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { BackupSpec, JobRecords, LeaseRecords, RestoreSpec } from '../jobs/job.js';
import { openVault } from '../secrets.js';
import { openDatabase } from './db.js';
import { jobRecords, leaseRecords } from './jobs.js';
import { type PreferenceRecords, preferenceRecords } from './preferences.js';
import { type ShareRecords, shareRecords } from './shares.js';
import { type TargetRecords, targetRecords } from './targets.js';
import { type Sessions, sessions, type Users, users } from './users.js';

export type { Preferences } from './preferences.js';
export type { TargetRecord, TargetSpec } from './targets.js';
export type { Session, User } from './users.js';

export interface Store {
  readonly backups: JobRecords<BackupSpec>;
  readonly restores: JobRecords<RestoreSpec>;
  readonly leases: LeaseRecords;
  readonly targets: TargetRecords;
  readonly users: Users;
  readonly sessions: Sessions;
  readonly preferences: PreferenceRecords;
  readonly shares: ShareRecords;
  /** Seals a text under the appliance's key; whoever has the state folder opens it for the same purpose. */
  seal(text: string, purpose: string): string;
  close(): Promise<void>;
}

export async function openStore(stateFolder: string): Promise<Store> {
  await mkdir(stateFolder, { recursive: true, mode: 0o700 });
  const vault = await openVault(stateFolder);
  const db = await openDatabase(join(stateFolder, 'db'));
  return {
    backups: jobRecords(db, 'backup'),
    restores: jobRecords(db, 'restore'),
    leases: leaseRecords(db),
    targets: targetRecords(db, vault),
    users: users(db),
    sessions: sessions(db),
    preferences: preferenceRecords(db),
    shares: shareRecords(db),
    seal: (text, purpose) => vault.seal(text, purpose),
    close: () => db.close(),
  };
}
