//! Needs two interfaces that no host offers: `acme:db/queries@1.0.0` and `acme:cache/lru@0.1.0`.
//! Its handler would ask both, and answer with what they said.

use test_guests_p2::{IncomingRequest, ResponseOutparam, answer, worker};

wit_bindgen::generate!({
    inline: "
        package test:missing-imports;

        world guest {
            import acme:db/queries@1.0.0;
            import acme:cache/lru@0.1.0;
        }

        package acme:db@1.0.0 {
            interface queries {
                run: func(query: string) -> result<list<string>, string>;
            }
        }

        package acme:cache@0.1.0 {
            interface lru {
                get: func(key: string) -> option<string>;
            }
        }
    ",
    generate_all,
});

worker!(handle);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    let cached = acme::cache::lru::get("rows");
    let rows = acme::db::queries::run("select 1");
    answer(out, 200, &format!("{cached:?} {rows:?}\n"));
}
