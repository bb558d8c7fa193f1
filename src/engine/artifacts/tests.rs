//! Components by their templates: the same guests as compiled directly, and taken from one another where they may be.

use proptest::prelude::*;
use wasmtime::Store;
use wasmtime::component::{Component, Linker};

use super::*;

const KIND: GuestKind = GuestKind::Wasi02;

/// A guest with a memory of four pages, some code to look at it, and what differs from guest to guest.
#[derive(Debug, Clone)]
struct Guest {
    segments: Vec<(u32, Vec<u8>)>,
    stack: i32,
    /// Of its code: two guests share a template only if they agree in it.
    number: u32,
    pages: u32,
    counts: Counts,
}

/// Whether the module counts its segments, so that its code can name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Segments,
    Nothing,
}

impl Guest {
    fn of(data: &[u8]) -> Self {
        let segments = vec![(70_000, data.to_vec())];
        Self { segments, stack: 1_234_568, number: 7, pages: 4, counts: Counts::Nothing }
    }

    fn component(&self) -> Vec<u8> {
        let text = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
        let (passive, named) = match self.counts {
            // Active segments have no bytes left once the guest runs, so naming one is to take nothing of it.
            Counts::Segments => (
                "(data \"passive\")",
                "(memory.init 0 (i32.const 0) (i32.const 0) (i32.const 7)) (memory.init 1 (i32.const 9) (i32.const 0) (i32.const 0))",
            ),
            Counts::Nothing => ("", ""),
        };
        let segments: String =
            self.segments.iter().map(|(at, bytes)| format!("(data (i32.const {at}) \"{}\")\n", text(bytes))).collect();
        let wat = format!(
            r#"(component
                (core module $m
                    (memory {pages})
                    (global $stack (mut i32) (i32.const {stack}))
                    (global $small (mut i32) (i32.const 3))
                    (global $fixed i32 (i32.const 2000000))
                    {passive}
                    {segments}
                    (func (export "stack") (result i32) global.get $stack)
                    (func (export "number") (result i32) i32.const {number} global.get $fixed i32.add)
                    ;; FNV-1a over the whole memory, read as words.
                    (func (export "sum") (result i32) (local $at i32) (local $sum i32)
                        {named}
                        (local.set $sum (i32.const 0x811c9dc5))
                        (loop $more
                            (local.set $sum (i32.mul (i32.const 16777619)
                                (i32.xor (local.get $sum) (i32.load (local.get $at)))))
                            (local.set $at (i32.add (local.get $at) (i32.const 4)))
                            (br_if $more (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
                        local.get $sum)
                )
                (core instance $i (instantiate $m))
                (func (export "stack") (result u32) (canon lift (core func $i "stack")))
                (func (export "number") (result u32) (canon lift (core func $i "number")))
                (func (export "sum") (result u32) (canon lift (core func $i "sum"))))"#,
            pages = self.pages,
            stack = self.stack,
            number = self.number,
        );
        wat::parse_str(&wat).unwrap()
    }

    fn digest(&self) -> ModuleDigest {
        use sha2::Digest as _;
        ModuleDigest::from_bytes(sha2::Sha256::digest(self.component()).into())
    }

    fn template(&self) -> Option<Template> {
        Template::of(&self.component(), 0)
    }
}

fn artifacts(folder: &tempfile::TempDir) -> Artifacts {
    Artifacts { template_code_bytes_min: 0, ..Artifacts::open(folder.path().to_owned(), u64::MAX).unwrap() }
}

/// What a guest says of itself.
fn told(engine: &Engine, component: &Component) -> [u32; 3] {
    let mut store = Store::new(engine, ());
    let instance = Linker::new(engine).instantiate(&mut store, component).unwrap();
    ["stack", "number", "sum"].map(|name| {
        let function = instance.get_typed_func::<(), (u32,)>(&mut store, name).unwrap();
        function.call(&mut store, ()).unwrap().0
    })
}

/// Makes a guest ready, and says whether that was done without compiling it.
fn make(artifacts: &Artifacts, engine: &Engine, guest: &Guest) -> (Component, bool) {
    let (name, template) = (name(engine, guest.digest(), KIND), guest.template().unwrap());
    match artifacts.of_model(engine, KIND, &template, &name) {
        Some(component) => (component, true),
        None => (artifacts.make(engine, guest.digest(), KIND, &guest.component()).unwrap().0, false),
    }
}

fn any_guest() -> impl Strategy<Value = Guest> {
    let bytes = prop_oneof![prop::collection::vec(any::<u8>(), 0..200), prop::collection::vec(Just(0), 0..9000)];
    let segments = prop::collection::vec((0u32..250_000, bytes), 1..12);
    let stack = prop_oneof![(1 << 20)..(1 << 27), any::<i32>()];
    let counts = prop_oneof![Just(Counts::Segments), Just(Counts::Nothing)];
    (segments, stack, counts).prop_map(|(segments, stack, counts)| Guest { segments, stack, counts, ..Guest::of(b"") })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_guest_is_the_same_whether_compiled_as_it_is_or_by_its_template(first in any_guest(), seed: u8) {
        let (engine, folder) = (Engine::default(), tempfile::tempdir().unwrap());
        let artifacts = artifacts(&folder);
        // Other bytes in the same places, and another address.
        let mut second = first.clone();
        for (at, bytes) in &mut second.segments {
            *at ^= 3;
            bytes.iter_mut().for_each(|byte| *byte ^= seed);
        }
        for guest in [&first, &second] {
            if let Some(template) = guest.template() {
                prop_assert!(Component::new(&engine, &template.component).is_ok());
            }
            let plain = told(&engine, &Component::new(&engine, guest.component()).unwrap());
            let (made, _) = artifacts.make(&engine, guest.digest(), KIND, &guest.component()).unwrap();
            prop_assert_eq!(told(&engine, &made), plain);
            let loaded = artifacts.load(&engine, guest.digest(), KIND).unwrap();
            prop_assert_eq!(told(&engine, &loaded), plain);
        }
    }
}

#[test]
fn guests_that_differ_in_their_data_only_are_compiled_once() {
    let (engine, folder) = (Engine::default(), tempfile::tempdir().unwrap());
    let artifacts = artifacts(&folder);
    let first = Guest::of(b"a script");
    let others = [
        Guest::of(b"another"),
        Guest { stack: 5_000_000, ..Guest::of(b"a script with another stack") },
        Guest { segments: vec![(66_000, b"one".to_vec()), (130_000, b"two".to_vec())], ..first.clone() },
    ];
    assert!(!make(&artifacts, &engine, &first).1);
    for other in &others {
        let (component, is_taken) = make(&artifacts, &engine, other);
        assert!(is_taken, "{other:?}");
        assert_eq!(told(&engine, &component), told(&engine, &Component::new(&engine, other.component()).unwrap()));
    }
    // The first one's artifact may be gone: the last one's serves as well.
    std::fs::remove_file(artifacts.shelf.path(&name(&engine, first.digest(), KIND))).unwrap();
    assert!(make(&artifacts, &engine, &Guest::of(b"one more")).1);
}

#[test]
fn guests_that_differ_in_anything_else_are_compiled() {
    let (engine, folder) = (Engine::default(), tempfile::tempdir().unwrap());
    let artifacts = artifacts(&folder);
    let first = Guest::of(b"a script");
    make(&artifacts, &engine, &first);
    let others = [
        Guest { number: 8, ..first.clone() },
        Guest { pages: 5, ..first.clone() },
        Guest { counts: Counts::Segments, ..first.clone() },
        // No address of a large guest, so no variable.
        Guest { stack: 100, ..first.clone() },
        // Data on another page: the picture begins elsewhere.
        Guest { segments: vec![(1, b"a script".to_vec())], ..first.clone() },
    ];
    for other in others {
        let (component, is_taken) = make(&artifacts, &engine, &other);
        assert!(!is_taken, "{other:?}");
        assert_eq!(told(&engine, &component), told(&engine, &Component::new(&engine, other.component()).unwrap()));
    }
}

/// The strongest thing that can be said: there is no difference to find.
#[test]
fn what_is_put_in_place_gives_the_code_that_the_compiler_gives() {
    let engine = Engine::default();
    let data: Vec<u8> = (0..PAGE_BYTES).map(|n| (n % 251) as u8 + 1).collect();
    let guest = Guest { segments: vec![(65_536, data.clone())], ..Guest::of(b"") };
    let template = guest.template().unwrap();
    let mut artifact = engine.precompile_component(&template.component).unwrap();
    let places = template.find(&artifact).unwrap();
    template.fill(&mut artifact, &places).unwrap();
    // The picture is the one segment exactly, so the component is its own template but for the bytes.
    assert!(artifact == engine.precompile_component(&guest.component()).unwrap());
}

const PAGE_BYTES: usize = 65_536;

#[test]
fn a_component_has_no_template_if_it_is_small_or_its_data_are_not_known_before_it_runs() {
    assert!(Template::of(&Guest::of(b"x").component(), 10_000).is_none());
    assert!(Guest::of(b"").template().is_none());
    // Strewn over more than a picture may hold.
    let strewn = Guest { segments: vec![(0, vec![1]), (150 << 20, vec![1])], pages: 3000, ..Guest::of(b"") };
    assert!(strewn.template().is_none());
    for memory in [
        "(import \"a\" \"b\" (memory 1))",
        "(import \"a\" \"g\" (global $g i32)) (memory 1)",
        "(memory i64 1)",
        "(memory 1 1 shared)",
        "(memory 1) (memory $second 1)",
    ] {
        let at = match memory {
            _ if memory.contains("$g") => "(global.get $g)",
            _ if memory.contains("i64") => "(i64.const 0)",
            _ if memory.contains("$second") => "(memory $second) (i32.const 0)",
            _ => "(i32.const 0)",
        };
        let text = format!("(component (core module {memory} (data {at} \"x\") (func (export \"f\"))))");
        assert!(Template::of(&wat::parse_str(&text).unwrap(), 0).is_none(), "{memory}");
    }
    // A guest that traps as it starts goes on to do so.
    let beyond = "(component (core module (memory 1) (data (i32.const 65535) \"xx\") (func (export \"f\"))))";
    assert!(Template::of(&wat::parse_str(beyond).unwrap(), 0).is_none());
}

#[test]
fn nothing_is_made_of_what_is_damaged() {
    type Damage = fn(&Artifacts, &str);
    let damages: [(&str, Damage); 5] = [
        ("a flipped byte of the artifact", |artifacts, name| flip(&artifacts.shelf.path(name))),
        ("no artifact", |artifacts, name| std::fs::remove_file(artifacts.shelf.path(name)).unwrap()),
        ("another artifact's seal", |artifacts, name| {
            let bytes = std::fs::read(artifacts.shelf.path(name)).unwrap();
            artifacts.shelf.write(name, "another-template", &bytes).unwrap();
        }),
        ("a flipped byte of the note", |artifacts, _| flip(&note(artifacts))),
        ("no note", |artifacts, _| std::fs::remove_file(note(artifacts)).unwrap()),
    ];
    for (what, damage) in damages {
        let (engine, folder) = (Engine::default(), tempfile::tempdir().unwrap());
        let artifacts = artifacts(&folder);
        let (first, second) = (Guest::of(b"a script"), Guest::of(b"another"));
        make(&artifacts, &engine, &first);
        damage(&artifacts, &name(&engine, first.digest(), KIND));
        let (component, is_taken) = make(&artifacts, &engine, &second);
        assert!(!is_taken, "{what}");
        assert_eq!(told(&engine, &component), told(&engine, &Component::new(&engine, second.component()).unwrap()));
        // And what was made then serves the next.
        assert!(make(&artifacts, &engine, &Guest::of(b"one more")).1, "{what}");
    }
}

fn note(artifacts: &Artifacts) -> PathBuf {
    let files = std::fs::read_dir(artifacts.shelf.path("x").parent().unwrap()).unwrap();
    let mut notes =
        files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|it| it == "note"));
    notes.next().unwrap()
}

fn flip(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_cache_that_cannot_be_written_costs_time_and_nothing_else() {
    let (engine, folder) = (Engine::default(), tempfile::tempdir().unwrap());
    let artifacts = artifacts(&folder);
    std::fs::remove_dir_all(folder.path()).unwrap();
    for guest in [Guest::of(b"a script"), Guest::of(b"another")] {
        let (component, _) = artifacts.make(&engine, guest.digest(), KIND, &guest.component()).unwrap();
        assert_eq!(told(&engine, &component), told(&engine, &Component::new(&engine, guest.component()).unwrap()));
    }
}

#[test]
fn what_no_version_has_and_what_another_engine_made_goes_once_it_is_old() {
    let (engine, folder) = (Engine::default(), tempfile::tempdir().unwrap());
    let other = Engine::new(wasmtime::Config::new().epoch_interruption(true)).unwrap();
    let artifacts = artifacts(&folder);
    let guests = [Guest::of(b"claimed"), Guest::of(b"nobody's"), Guest { number: 9, ..Guest::of(b"other engine's") }];
    let claims = HashMap::from([(guests[0].digest(), Claim::Version), (guests[2].digest(), Claim::Traffic)]);
    let names = [&engine, &engine, &other].into_iter().zip(&guests).map(|(engine, guest)| {
        artifacts.make(engine, guest.digest(), KIND, &guest.component()).unwrap();
        name(engine, guest.digest(), KIND)
    });
    let names: Vec<String> = names.collect();
    let there = || names.iter().map(|name| artifacts.shelf.is_sound(name)).collect::<Vec<_>>();
    artifacts.tidy(&[&engine], &claims);
    assert_eq!(there(), [true, true, true]);
    shelf::tests::age(&artifacts.shelf, 8 * 24 * 3600);
    artifacts.tidy(&[&engine], &claims);
    assert_eq!(there(), [true, false, false]);
}
