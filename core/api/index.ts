/** The REST API: all its routes, in one table. */
import type { RequestListener } from 'node:http';
import { Mutex } from '../primitives/mutex.js';
import { authRoutes } from './auth.js';
import type { ApiDeps } from './deps.js';
import { listenerOf } from './listener.js';
import type { Route } from './route.js';
import { backupRoutes } from './routes/backups.js';
import { createEventFeed } from './routes/event-feed.js';
import { eventRoutes } from './routes/events.js';
import { historyRoutes } from './routes/history.js';
import { progressFeed, progressRoutes } from './routes/progress.js';
import { restoreRoutes } from './routes/restores.js';
import { sshRoutes } from './routes/ssh.js';
import { systemRoutes } from './routes/system.js';
import { targetRoutes } from './routes/targets.js';
import { updateRoutes } from './routes/updates.js';

export type { ApiDeps, Folder, RemoteTargets, SshAccess, SshSwitch, Updates } from './deps.js';

export function createApi(deps: ApiDeps): RequestListener {
  /** Serialises changes of jobs and targets, so that a checked link still holds when it is written. */
  const changes = new Mutex();
  const all: Route[] = [
    ...authRoutes(deps),
    ...targetRoutes(deps, changes),
    // Before /backup/:id, which would take `progress` for an id.
    ...progressRoutes(progressFeed(deps.jobs, deps.signal)),
    ...backupRoutes(deps, changes),
    ...restoreRoutes(deps, changes),
    ...historyRoutes(deps),
    ...eventRoutes(createEventFeed(deps.jobs, deps.signal)),
    ...updateRoutes(deps),
    ...sshRoutes(deps),
    ...systemRoutes(deps, () => all),
  ];
  return listenerOf(deps, all);
}
