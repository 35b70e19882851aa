/** System paths of the host: one list, of which each check uses a part. */

const programs = ['lib[^/]*', 'usr', 'bin', 'sbin'];
const kernel = ['proc', 'sys', 'run', 'var/run'];
const pattern = (names: readonly string[]) => new RegExp(`^/($|(${names.join('|')})(/|$))`);

const system = pattern([...programs, ...kernel, 'dev']);
const configured = pattern([...programs, ...kernel, 'dev', 'etc', 'boot']);
const rights = pattern([...programs, ...kernel, 'etc', 'boot', 'root', 'var/lib', 'var/spool']);

/** Whether a path belongs to the host's system and holds no data of a container. Backups leave it out. */
export const isSystemPath = (path: string): boolean => system.test(path);

/** Whether a path belongs to the host's system or its configuration. No volume is restored there. */
export const isReservedPath = (path: string): boolean => configured.test(path);

/** Whether mounting the path gives rights over the host's system. Devices are checked elsewhere. */
export const isPathOfRights = (path: string): boolean => rights.test(path);
