;; A valid component that no request can be given to: it exports one function, and no handler.
(component
  (core module $inside
    (func (export "answer") (result i32) (i32.const 42)))
  (core instance $instance (instantiate $inside))
  (func (export "answer") (result s32) (canon lift (core func $instance "answer"))))
