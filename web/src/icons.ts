/** Line drawings of 20 x 20, in the colour of the text. */
const draw = (paths: string): string =>
  `<svg viewBox="0 0 20 20" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round">${paths}</svg>`;

export const ICONS: Record<string, string> = {
  select: draw('<path d="M5 3l10 7-4.5 1L8 16z"/>'),
  draw: draw('<path d="M4 13c-2-4 1-9 6-9s8 4 6 8-8 5-12 1z" stroke-dasharray="2.5 2.5"/><path d="M12 17l5-5"/>'),
  box: draw('<rect x="3" y="4" width="14" height="12" stroke-dasharray="2.5 2.5"/><ellipse cx="10" cy="10" rx="4.5" ry="3.5"/>'),
  point: draw('<ellipse cx="10" cy="10" rx="6.5" ry="5.5"/><path d="M10 7v6M7 10h6"/>'),
  split: draw('<path d="M8.5 5C5 4 3 7 3 10s2 6 5.500 5M11.500 5C15 4 17 7 17 10s-2 6-5.500 5"/><path d="M10 2v16" stroke-dasharray="2 2"/>'),
  brush: draw('<path d="M16 3c-4 2-7 5-8 8l2 2c3-1 5-4 7-8z"/><path d="M8 11c-3 0-2 4-5 5 3 2 7 0 7-3"/>'),
  erase: draw('<path d="M4 12l7-8 5 4.500-7 8H6z"/><path d="M7.500 8l5 4.500M9 16.500h8"/>'),
  region: draw('<rect x="3" y="4" width="14" height="12" stroke-dasharray="2.5 2.500"/><path d="M7 10l2.500 2.500L14 7.500"/>'),
  plus: draw('<path d="M10 4v12M4 10h12"/>'),
  minus: draw('<path d="M4 10h12"/>'),
  fit: draw('<path d="M3 7V3h4M13 3h4v4M17 13v4h-4M7 17H3v-4"/>'),
  undo: draw('<path d="M4 8h8a4 4 0 010 8H8"/><path d="M7 4.500L3.500 8 7 11.500"/>'),
  redo: draw('<path d="M16 8H8a4 4 0 000 8h4"/><path d="M13 4.500L16.500 8 13 11.500"/>'),
  theme: draw('<circle cx="10" cy="10" r="6.500"/><path d="M10 3.500a6.500 6.500 0 010 13z" fill="currentColor"/>'),
  help: draw('<circle cx="10" cy="10" r="7.500"/><path d="M7.800 8a2.300 2.300 0 114 1.500c-1 .9-1.800 1.200-1.800 2.300M10 14.300v.1"/>'),
};
