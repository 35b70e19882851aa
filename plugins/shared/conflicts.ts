/** Conflicts of a restore that both engines have. */
import type { Conflict, PlannedPlace } from '../../core/contract/index.js';
import type { PlaceUser } from './swap/index.js';

/** A place that a plan decided. */
export interface UsedPlace extends Pick<PlannedPlace, 'action' | 'after'> {
  /** The other containers that mount it. */
  readonly users: readonly PlaceUser[];
}

/** A running container that uses a replaced place blocks the restore; a stopped one is only named. Each is listed once a place. */
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

/** A mount with a missing source. */
export interface MissingMount {
  /** The path or volume name to mount after the restore. */
  readonly after: string;
  readonly mountpoint: string;
  /** The source that remap.volumes can move; undefined when the mount is no source. */
  readonly source?: string;
}

/** Kept folders and volumes that are missing: the container could not start. */
export function missingConflicts(missing: readonly MissingMount[]): Conflict[] {
  return missing.map(({ after, mountpoint, source }) => ({
    code: 'folder_missing',
    what: `${after}, mounted at ${mountpoint}, is not there and is not restored`,
    fix: `Bring it back${source === undefined ? '' : `, or give another with remap.volumes for ${source}`}; then start the container`,
  }));
}
