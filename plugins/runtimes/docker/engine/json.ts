/** The engine's answers are unknown until looked at. These turn them into typed values without casts;
 *  what is absent or of another type becomes the neutral value, since engines leave out empty fields. */
import { type Fields, isFields } from '../../../shared/fields.js';

export { type Fields, isFields };

export function fields(value: unknown): Fields {
  return isFields(value) ? value : {};
}

export function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

export function count(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

export function flag(value: unknown): boolean {
  return value === true;
}

export function items(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function texts(value: unknown): readonly string[] {
  return items(value).filter((item): item is string => typeof item === 'string');
}
