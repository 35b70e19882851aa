/** Turns the engine's untyped answers into typed values without casts. An absent or wrongly typed value becomes the neutral
 *  value ('', 0, false, empty), since engines leave out empty fields. */
import { type Fields, isFields } from '../../../shared/primitives/guards.js';

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
