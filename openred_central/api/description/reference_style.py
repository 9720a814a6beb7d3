"""How the reference page looks: light and dark, on a desk, a phone and paper."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --card: #fff; --ink: #1d2126; --soft: #5b6470; --line: #e1e3e6; --link: #0b57a4;
  --code: #f1f2f4; --get: #0b6b4f; --post: #0b57a4; --delete: #a3271b; --good: #0b6b4f; --bad: #a3271b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --card: #1b1f24; --ink: #e4e7eb; --soft: #9aa4b0; --line: #30363d; --link: #7ab8f5;
    --code: #262c33; --get: #4cc38a; --post: #7ab8f5; --delete: #f0857a; --good: #4cc38a; --bad: #f0857a;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
a { color: var(--link); text-underline-offset: 0.15em; }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
code, .path { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
code { font-size: 0.88em; background: var(--code); padding: 0.1em 0.3em; border-radius: 4px;
  overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 0.25rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 0.25rem; }
h3 { font-size: 1.02rem; margin: 0; display: flex; flex-wrap: wrap; gap: 0.3rem 0.6rem;
  align-items: baseline; }
h4 { font-size: 0.78rem; letter-spacing: 0.06em; text-transform: uppercase; color: var(--soft);
  margin: 1.4rem 0 0.3rem; }
p { margin: 0.5rem 0; max-width: 70ch; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 1rem; top: 1rem; background: var(--card); padding: 0.5rem; z-index: 1; }
.soft { color: var(--soft); }
.frame { display: grid; grid-template-columns: 17rem minmax(0, 1fr); max-width: 76rem; margin: 0 auto; }
nav { position: sticky; top: 0; align-self: start; height: 100vh; overflow: auto;
  padding: 2rem 1rem 2rem 1.5rem; font-size: 0.9rem; border-right: 1px solid var(--line); }
nav ul { list-style: none; margin: 0 0 1.1rem; padding: 0; }
nav li a { display: flex; gap: 0.5rem; padding: 0.2rem 0; color: var(--ink); text-decoration: none; }
nav li a:hover { color: var(--link); }
nav .method { font-size: 0.68rem; width: 3.4rem; flex: none; padding-top: 0.15rem; }
nav .path { font-size: 0.8rem; overflow-wrap: anywhere; }
main { padding: 2rem 2.5rem 6rem; min-width: 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: 1rem 0;
  padding: 1.1rem 1.3rem 1.3rem; }
.card h3 .path { font-size: 1rem; overflow-wrap: anywhere; }
.card .summary { font-weight: 600; margin-top: 0.5rem; }
.method { font-weight: 700; font-size: 0.8rem; letter-spacing: 0.04em; }
.get { color: var(--get); } .post { color: var(--post); } .delete { color: var(--delete); }
table { width: 100%; border-collapse: collapse; font-size: 0.92rem; }
td, th { text-align: left; vertical-align: top; padding: 0.45rem 0.8rem 0.45rem 0;
  border-top: 1px solid var(--line); overflow-wrap: anywhere; }
tr:first-child > td, tr:first-child > th { border-top: 0; }
th { width: 12.5rem; font-weight: 400; }
td p { margin: 0; }
.must { color: var(--bad); font-size: 0.78rem; white-space: nowrap; }
.old { color: var(--soft); font-size: 0.78rem; white-space: nowrap; }
.status { width: 4rem; font-variant-numeric: tabular-nums; font-weight: 600; }
.ok { color: var(--good); } .no { color: var(--bad); }
.pattern { font-size: 0.8em; }
footer { color: var(--soft); font-size: 0.85rem; margin-top: 3rem; }
@media (max-width: 52rem) {
  .frame { display: block; }
  nav { position: static; height: auto; max-height: 15rem; border: 0; border-bottom: 1px solid var(--line);
    padding: 0.7rem 1rem; }
  nav li a { padding: 0.4rem 0; }
  main { padding: 1.2rem 1rem 4rem; }
  .card { padding: 0.9rem 1rem 1rem; }
  table, tbody, tr, td, th { display: block; width: auto; }
  td, th { border: 0; padding: 0.1rem 0; }
  tr { border-top: 1px solid var(--line); padding: 0.5rem 0; }
  tr:first-child { border-top: 0; }
}
@media print { nav { display: none; } .frame { display: block; } .card { break-inside: avoid; } }
"""
