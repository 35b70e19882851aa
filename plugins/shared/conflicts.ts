/** What a restore may run into with either engine. */
import type { Conflict, PlannedPlace } from '../../core/contract/index.js';
import type { PlaceUser } from './swap/index.js';

/** A place that a plan decided about. */
export interface UsedPlace extends Pick<PlannedPlace, 'action' | 'after'> {
  /** Who else has it mounted. */
  readonly users: readonly PlaceUser[];
}

/** Running containers that use what is replaced stand in the way; stopped ones are only named. Each is told once a place. */
export function userConflicts(places: readonly UsedPlace[]): Conflict[] {
  const replaced = places.filter(({ action }) => action === 'restore');
  const users = replaced.flatMap(({ users, after }) => users.map((user) => ({ ...user, after })));
  const named = users.filter((user, n) => users.findIndex((one) => one.container === user.container && one.after === user.after) === n);
  return named.map(({ container, running, after }) => {
    const what = `${container} uses ${after} too`;
    if (running) return { code: 'volume_in_use', what, fix: `Stop ${container} first` };
    return { code: 'volume_shared', what, fix: `${container} will find the restored files; nothing needs to be done` };
  });
}

/** What a container has mounted, and what will not be there. */
export interface MissingMount {
  /** Where it was to lie after the restore. */
  readonly after: string;
  readonly mountpoint: string;
  /** The source that a remap can send elsewhere; undefined when it is none of its own. */
  readonly source?: string;
}

/** Folders and volumes that are to be mounted as they are, and are not there: the container could not be started. */
export function missingConflicts(missing: readonly MissingMount[]): Conflict[] {
  return missing.map(({ after, mountpoint, source }) => ({
    code: 'folder_missing',
    what: `${after}, mounted at ${mountpoint}, is not there and is not restored`,
    fix: `Bring it back${source === undefined ? '' : `, or give another with remap.volumes for ${source}`}; then start the container`,
  }));
}
