/** Users and their sessions. Passwords are stored as Argon2 hashes, tokens as SHA-256, since tokens are random already. */
import { createHash, randomBytes } from 'node:crypto';
import type { Database } from './copies/database.js';
import { hashPassword, isPassword } from './passwords.js';
import { openTable, type RowFormat } from './row-format.js';

export interface User {
  readonly username: string;
  readonly isAdmin: boolean;
}
export interface Session extends User {
  /** Identifies the session, but does not open it. */
  readonly key: string;
  readonly created: number;
  readonly expires: number;
}

export interface Users {
  any(): Promise<boolean>;
  /** Returns false when there is a user already. */
  createFirst(username: string, password: string): Promise<boolean>;
  create(username: string, password: string, isAdmin: boolean): Promise<void>;
  /** Takes as long for an unknown name as for a wrong password. @throws PluginError unavailable (too many at a time), aborted */
  verify(username: string, password: string, signal?: AbortSignal): Promise<User | undefined>;
}
export interface Sessions {
  /** Returns the token, which is stored nowhere. */
  create(user: User, lifetime: number): Promise<{ token: string; session: Session }>;
  find(token: string): Promise<Session | undefined>;
  extend(session: Session, lifetime: number): Promise<Session>;
  delete(session: Session): Promise<void>;
}

interface KeptUser extends User {
  readonly hash: string;
}

const userKind: RowFormat<KeptUser> = {
  name: 'user',
  version: 1,
  steps: {},
  read({ username, isAdmin, hash: stored }) {
    if (typeof username !== 'string' || typeof isAdmin !== 'boolean' || typeof stored !== 'string') throw new Error('damaged user row');
    return { username, isAdmin, hash: stored };
  },
  write: (user) => ({ ...user }),
};

const sessionKind: RowFormat<Session> = {
  name: 'session',
  version: 1,
  steps: {},
  read({ key, username, isAdmin, created, expires }) {
    if (typeof key !== 'string' || typeof username !== 'string' || typeof isAdmin !== 'boolean') throw new Error('damaged session row');
    if (typeof created !== 'number' || typeof expires !== 'number') throw new Error('damaged session row');
    return { key, username, isAdmin, created, expires };
  },
  write: (session) => ({ ...session }),
};

export function openUsers(db: Database): Users {
  const table = openTable(db, userKind);
  const decoy = hashPassword(randomBytes(16));
  return {
    any: async () => (await table.list()).length > 0,
    async createFirst(username, password) {
      const made = await hashPassword(password);
      return db.serial(async () => {
        if ((await table.list()).length > 0) return false;
        await table.put(username, { username, isAdmin: true, hash: made });
        return true;
      });
    },
    create: async (username, password, isAdmin) => table.put(username, { username, isAdmin, hash: await hashPassword(password) }),
    async verify(username, password, signal) {
      const user = await table.get(username);
      const right = await isPassword(user?.hash ?? (await decoy), password, signal);
      return user !== undefined && right ? { username: user.username, isAdmin: user.isAdmin } : undefined;
    },
  };
}

export function openSessions(db: Database, now: () => number = Date.now): Sessions {
  const table = openTable(db, sessionKind);
  const keyOf = (token: string) => createHash('sha256').update(token).digest('hex');
  return {
    async create(user, lifetime) {
      const over = (await table.list()).filter(({ expires }) => expires <= now());
      await Promise.all(over.map(({ key }) => table.delete(key))); // in parallel, so that they share a sync
      const token = randomBytes(32).toString('base64url');
      const session = {
        username: user.username,
        isAdmin: user.isAdmin,
        key: keyOf(token),
        created: now(),
        expires: now() + lifetime,
      };
      await table.put(session.key, session, 'reserve'); // an admin must be able to log in to make room
      return { token, session };
    },
    async find(token) {
      const session = await table.get(keyOf(token));
      return session !== undefined && session.expires > now() ? session : undefined;
    },
    async extend(session, lifetime) {
      const longer = { ...session, expires: now() + lifetime };
      await table.put(session.key, longer, 'reserve');
      return longer;
    },
    delete: (session) => table.delete(session.key),
  };
}
